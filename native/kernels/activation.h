// Activation functions on vectors, within a few units in the last place; NaN stays NaN.
#pragma once

#include "../step.h"

namespace lepton::LEPTON_ISA {

static inline VF silu(VF x) { return div(x, set1(1.0f) + exp(set1(0.0f) - x)); }

// Near zero an odd polynomial, a minimax fit to (tanh(x) - x) / x^3; from 0.625 on 1 - 2 / (1 + e^2x), which cancels no
// more than a bit there (the two ranges of Cody & Waite 1980, "Software Manual for the Elementary Functions").
static inline VF tanh(VF x) {
  const VF size = abs(x), x2 = x * x;
  VF p = fma(set1(-5.70464278e-3f), x2, set1(2.06388048e-2f));
  p = fma(p, x2, set1(-5.37396366e-2f));
  p = fma(p, x2, set1(1.33314414e-1f));
  p = fma(p, x2, set1(-3.33332819e-1f));
  const VF near = fma(x * x2, p, x);
  const VF far = set1(1.0f) - div(set1(2.0f), set1(1.0f) + exp(size + size));
  return select_less(size, set1(0.625f), near, select_less(x, set1(0.0f), set1(0.0f) - far, far));
}

constexpr float kGeluZero = 14.0f;  // from here on, what gelu(x) lacks of max(x, 0) is below the range of f32

// z * Phi(-z) for 0 <= z <= 14, Phi the normal distribution: e^(-z^2 / 2) times what is left of Phi(-z). That, times
// 1 + 1.25 z, is nearly constant, and smooth in (z - 4) / (z + 4): a minimax polynomial there (the change of variable
// of Shepherd & Laframboise 1981, "Chebyshev Approximation of (1 + 2x) exp(x^2) erfc x").
static inline VF normal_tail(VF z) {
  const VF v = div(z - set1(4.0f), z + set1(4.0f));
  VF p = fma(set1(1.47201942e-4f), v, set1(9.89303224e-4f));
  p = fma(p, v, set1(-6.57679901e-4f));
  p = fma(p, v, set1(-6.45622015e-3f));
  p = fma(p, v, set1(2.45691486e-2f));
  p = fma(p, v, set1(-4.79461902e-2f));
  p = fma(p, v, set1(5.36754708e-2f));
  p = fma(p, v, set1(-1.35964722e-2f));
  p = fma(p, v, set1(-7.82798717e-2f));
  p = fma(p, v, set1(5.66463861e-1f));
  // The square of z would be rounded, and e^x turns that into many ulps: the upper half of z has an exact square
  // (Veltkamp's split), and the rest is small enough for four terms of the series.
  const VF spread = z * set1(4097.0f), high = spread - (spread - z);
  const VF rest = (high - z) * (high + z) * set1(0.5f);
  VF series = fma(rest, set1(0.25f), set1(1.0f));
  series = fma(rest * set1(1.0f / 3.0f), series, set1(1.0f));
  series = fma(rest * set1(0.5f), series, set1(1.0f));
  series = fma(rest, series, set1(1.0f));
  return div(z * p, fma(z, set1(1.25f), set1(1.0f))) * series * exp(high * high * set1(-0.5f));
}

// x Phi(x) = max(x, 0) - |x| Phi(-|x|): nothing cancels, and the tail of negative x keeps its relative accuracy.
static inline VF gelu(VF x) {
  return max(set1(0.0f), x) - normal_tail(min(set1(kGeluZero), abs(x)));  // in this order a NaN stays one
}

// gelu(x) within 5e-5 for any |x| < 12: for what goes to 8 bits in wide groups, whose steps are far wider.
// x (1/2 + x Q(x^2)) with a minimax polynomial Q up to 4.5, where Phi is taken to be 1.
static inline VF coarse_gelu(VF x) {
  constexpr float end = 4.5f;
  const VF z = min(set1(end), max(set1(-end), x));  // in this order a NaN stays one
  const VF t = fma(z * z, set1(2.0f / (end * end)), set1(-1.0f));
  VF q = fma(set1(0.00335369841f), t, set1(-0.00932853948f));
  q = fma(q, t, set1(0.0122085111f));
  q = fma(q, t, set1(-0.0167440418f));
  q = fma(q, t, set1(0.027629409f));
  q = fma(q, t, set1(-0.0405557677f));
  q = fma(q, t, set1(0.0548185669f));
  q = fma(q, t, set1(-0.077171959f));
  q = fma(q, t, set1(0.15690212f));
  return x * fma(z, q, set1(0.5f));
}

// The same as gelu with the logistic function of u = 2 sqrt(2 / pi) (z + 0.044715 z^3) for Phi; the roundings
// of u cost the tail up to 2 |u| ulps.
static inline VF gelu_tanh(VF x) {
  const VF z = min(set1(kGeluZero), abs(x));
  const VF u = z * fma(z * z, set1(0.0713548128f), set1(1.59576912f));
  const VF e = exp(set1(0.0f) - u);
  return max(set1(0.0f), x) - div(z * e, set1(1.0f) + e);
}

template <Activation KIND>
static inline VF activated(VF x) {
  if constexpr (KIND == Activation::Silu) return silu(x);
  if constexpr (KIND == Activation::Gelu) return gelu(x);
  if constexpr (KIND == Activation::GeluTanh) return gelu_tanh(x);
  if constexpr (KIND == Activation::Relu) return max(set1(0.0f), x);
  if constexpr (KIND == Activation::Tanh) return tanh(x);
}

// What becomes 8-bit codes in wide groups need not be closer than they are.
template <Activation KIND>
static inline VF coarsely_activated(VF x) {
  if constexpr (KIND == Activation::Gelu)
    return coarse_gelu(x);
  else
    return activated<KIND>(x);
}

// The instance of a function template for `kind`.
#define LEPTON_FOR_ACTIVATION(kind, function)                         \
  ((kind) == Activation::Silu       ? &function<Activation::Silu>     \
   : (kind) == Activation::Gelu     ? &function<Activation::Gelu>     \
   : (kind) == Activation::GeluTanh ? &function<Activation::GeluTanh> \
   : (kind) == Activation::Relu     ? &function<Activation::Relu>     \
                                    : &function<Activation::Tanh>)

}  // namespace lepton::LEPTON_ISA
