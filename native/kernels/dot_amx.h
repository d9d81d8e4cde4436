// Exact dot products of bytes: of few rows as AVX-512 VNNI, of many by the tiles of AMX.
#pragma once

#include "dot_avx512.h"

#define LEPTON_TILES "tiles_amx.h"
