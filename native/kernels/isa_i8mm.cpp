#define LEPTON_ISA i8mm
#define LEPTON_NAME "i8mm"
#define LEPTON_TABLE kKernelsI8mm
#define LEPTON_VEC "vec_neon.h"
#define LEPTON_DOT "dot_i8mm.h"
#include "kernels.inc.cpp"
