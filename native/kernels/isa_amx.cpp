#define LEPTON_ISA amx
#define LEPTON_NAME "amx"
#define LEPTON_TABLE kKernelsAmx
#define LEPTON_VEC "vec_avx512.h"
#define LEPTON_DOT "dot_amx.h"
#include "kernels.inc.cpp"
