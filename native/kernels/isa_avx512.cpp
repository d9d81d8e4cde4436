#define LEPTON_ISA avx512
#define LEPTON_NAME "avx512vnni"
#define LEPTON_TABLE kKernelsAvx512
#define LEPTON_VEC "vec_avx512.h"
#define LEPTON_DOT "dot_avx512.h"
#include "kernels.inc.cpp"
