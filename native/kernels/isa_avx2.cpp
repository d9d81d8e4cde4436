#define LEPTON_ISA avx2
#define LEPTON_NAME "avx2"
#define LEPTON_TABLE kKernelsAvx2
#define LEPTON_VEC "vec_avx2.h"
#define LEPTON_DOT "dot_avx2.h"
#include "kernels.inc.cpp"
