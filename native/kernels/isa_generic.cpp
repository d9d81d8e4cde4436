#define LEPTON_ISA generic
#define LEPTON_NAME "generic"
#define LEPTON_TABLE kKernelsGeneric
#define LEPTON_VEC "vec_generic.h"
#define LEPTON_DOT "dot_generic.h"
#include "kernels.inc.cpp"
