// The orthonormal cosine transform over T, by one Fourier transform of T points.
//
// J. Makhoul, A fast cosine transform in one and two dimensions, IEEE Trans. ASSP 28 (1980): with
// the even samples in front and the odd ones behind them in reverse, V the transform of that,
//     sum over t of x_t cos(pi (t + 1/2) k / T) = Re(exp(-i pi k / 2T) V_k).
// Two real channels share a transform here too, z = v_a + i v_b.
#include <cmath>

#include <triad/backends/cpu/channel_tiles.h>
#include <triad/backends/cpu/fft_bluestein.h>
#include <triad/backends/cpu/parallel.h>
#include <triad/backends/cpu/scratch.h>
#include <triad/backends/kernels.h>

namespace triad::cpu {
namespace {

template <class T>
struct DctPlan {
  AnyFft<T> fft;
  std::vector<T> turn;  // (cos, sin)(pi k / 2T) times the norm of basis function k

  explicit DctPlan(Index n) : fft(n) {
    for (Index k = 0; k < n; ++k) {
      const double norm = std::sqrt((k == 0 ? 1.0 : 2.0) / double(n));
      const std::complex<double> root = unit_root(k, 4 * n);
      turn.push_back(T(norm * root.real()));
      turn.push_back(T(-norm * root.imag()));
    }
  }

  // Which sample stands at place t of the reordered sequence.
  Index sample(Index t) const {
    const Index n = fft.size();
    return 2 * t < n ? 2 * t : 2 * (n - t) - 1;
  }

  void forward(const ChannelTile<T>& x, const ChannelTile<T>& y, T* z) const {
    const Index n = fft.size();
    for (Index t = 0; t < n; ++t) x.load(sample(t)).store(z + t * Row<T>::size);
    fft.forward(z);
    for (Index k = 0; k < n; ++k) {
      const Row<T> p = Row<T>::load(z + fft.row_of(k) * Row<T>::size);
      const Row<T> q = Row<T>::load(z + fft.row_of((n - k) % n) * Row<T>::size);
      // V_a = (p + conj q) / 2, V_b = (p - conj q) / 2i
      const Vec<T> c(T(0.5) * turn[2 * k]), s(T(0.5) * turn[2 * k + 1]);
      y.store(k, {fma(s, p.im - q.im, c * (p.re + q.re)), fnma(s, p.re - q.re, c * (p.im + q.im))});
    }
  }

  // V_k = exp(i pi k / 2T) (X_k - i X_{T-k}), X_T = 0: the transpose, since the map is orthogonal.
  void inverse(const ChannelTile<T>& x, const ChannelTile<T>& y, T* z) const {
    const Index n = fft.size();
    const Vec<T> half(T(0.5));
    for (Index k = 0; k < n; ++k) {
      const Row<T> p = x.load(k), q = k == 0 ? Row<T>{} : x.load(n - k);
      const Vec<T> scale = k == 0 ? Vec<T>(T(1)) : half;
      const Row<T> u{scale * (p.re + q.im), scale * (p.im - q.re)};
      times_pair(u, &turn[2 * k]).store(z + fft.row_of(k) * Row<T>::size);
    }
    fft.inverse(z);
    for (Index t = 0; t < n; ++t) y.store(sample(t), Row<T>::load(z + t * Row<T>::size));
  }
};

}  // namespace
}  // namespace triad::cpu

namespace triad::kernels {

using namespace cpu;

void dct(Cpu, const Tensor& x, bool inverse, const Tensor& y) {
  if (x.numel() == 0) return;
  visit_float("dct", x.dtype(), [&]<class T>(T) {
    const auto plan = cached_plan<DctPlan<T>>(x.shape()[1]);
    const Index B = x.shape()[0], H = x.shape()[2], tiles = tiles_per_head<T>(x);
    parallel_for(B * H * tiles, 1, [&](Index task) {
      T* z = scratch<T>(plan->fft.rows() * Row<T>::size);
      const Index b = task / (H * tiles), h = task / tiles % H, tile = task % tiles;
      const ChannelTile<T> in(x, b, h, tile), out(y, b, h, tile);
      inverse ? plan->inverse(in, out, z) : plan->forward(in, out, z);
    });
  });
}

}  // namespace triad::kernels
