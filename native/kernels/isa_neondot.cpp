#define LEPTON_ISA neondot
#define LEPTON_NAME "neondot"
#define LEPTON_TABLE kKernelsNeonDot
#define LEPTON_VEC "vec_neon.h"
#define LEPTON_DOT "dot_neon.h"
#include "kernels.inc.cpp"
