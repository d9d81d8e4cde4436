// e^x on vectors: 2^n * p(r) with n = round(x / ln 2), a degree-6 polynomial on |r| <= ln(2)/2; within 2 ulp.
#pragma once

namespace lepton::LEPTON_ISA {

static inline VF exp(VF x) {
  const VF lowest = set1(-87.0f);
  const VF clamped = min(set1(88.0f), max(lowest, x));  // in this order a NaN stays one
  const VF n = round(clamped * set1(1.44269504088896341f));
  VF r = fma(n, set1(-0.693359375f), clamped);
  r = fma(n, set1(2.12194440e-4f), r);
  // Pairs of terms side by side: what takes time is how long a product waits for the one before it.
  const VF r2 = r * r;
  const VF high = fma(set1(1.9875691500e-4f), r, set1(1.3981999507e-3f));
  const VF middle = fma(set1(8.3334519073e-3f), r, set1(4.1665795894e-2f));
  const VF low = fma(set1(1.6666665459e-1f), r, set1(5.0000001201e-1f));
  const VF p = fma(fma(fma(high, r2, middle), r2, low), r2, r + set1(1.0f));
  return select_less(x, lowest, set1(0.0f), times_exp2(p, n));
}

// One value, by the same arithmetic as a lane of a vector.
static inline float exp1(float x) {
  float lanes[W];
  store(lanes, exp(set1(x)));
  return lanes[0];
}

}  // namespace lepton::LEPTON_ISA
