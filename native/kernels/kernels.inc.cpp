// The kernels of one instruction set. LEPTON_ISA names its namespace, LEPTON_VEC and LEPTON_DOT its vectors,
// LEPTON_TABLE the table it exports: the only symbol with external linkage, so that wider instructions leak nowhere.

#include "../candidates.h"
#include "../step.h"
#include LEPTON_VEC
#include "codes.h"
#include LEPTON_DOT
#include "exp.h"
#include "activation.h"
#include "quantize.h"
#include "panel_matmul.h"
#include "attention_codes.h"
#ifdef LEPTON_TILES
#include "attention_codes_tiles.h"
#endif
#include "attention_tile.h"
#include "kv_codes8.h"
#include "kv_pairs.h"

#include "linear.inc.cpp"
#include "elementwise.inc.cpp"
#include "norm.inc.cpp"
#include "pool.inc.cpp"
#include "head.inc.cpp"
#include "kv_write.inc.cpp"
#include "attention_softmax.inc.cpp"
#include "kv_read.inc.cpp"
#include "attention_parts.inc.cpp"
#include "attention_codes.inc.cpp"
#ifdef LEPTON_TILES
#include "attention_pairs.inc.cpp"
#endif
#include "attention.inc.cpp"
#include "sample.inc.cpp"

namespace lepton {

extern const KernelTable LEPTON_TABLE;

// In the order of OpKind.
const KernelTable LEPTON_TABLE = {
    LEPTON_NAME,
    LEPTON_ISA::kTuning,
    {
        {LEPTON_ISA::embedding_chunks, LEPTON_ISA::embedding_run},
        {LEPTON_ISA::rope_table_chunks, LEPTON_ISA::rope_table_run},
        {LEPTON_ISA::norm_chunks, LEPTON_ISA::norm_run},
        {LEPTON_ISA::quantize_chunks, LEPTON_ISA::quantize_run},
        {LEPTON_ISA::linear_chunks, LEPTON_ISA::linear_run},
        {LEPTON_ISA::rope_chunks, LEPTON_ISA::rope_run},
        {LEPTON_ISA::kv_write_chunks, LEPTON_ISA::kv_write_run},
        {LEPTON_ISA::attend_chunks, LEPTON_ISA::attend_run},
        {LEPTON_ISA::attend_merge_chunks, LEPTON_ISA::attend_merge_run},
        {LEPTON_ISA::add_chunks, LEPTON_ISA::add_run},
        {LEPTON_ISA::activate_chunks, LEPTON_ISA::activate_run},
        {LEPTON_ISA::gather_rows_chunks, LEPTON_ISA::gather_rows_run},
        {LEPTON_ISA::pool_chunks, LEPTON_ISA::pool_run},
        {LEPTON_ISA::l2_normalize_chunks, LEPTON_ISA::l2_normalize_run},
        {LEPTON_ISA::token_logprob_chunks, LEPTON_ISA::token_logprob_run},
        {LEPTON_ISA::token_logprob_merge_chunks, LEPTON_ISA::token_logprob_merge_run},
        {LEPTON_ISA::sample_chunks, LEPTON_ISA::sample_run},
    },
};

}  // namespace lepton
