// Drawing a scene: joint, limb and motion maps (paper, appendix A, Eq. 1 and 2).
#pragma once

#include <vector>

#include "kernels.hpp"
#include "skeleton.hpp"

namespace har_native {

// Gaussians end at this radius. exp(-5.5² / 2) = 2.7e-7 is lost there, at most 1.3e-5 by the 48 limbs of two bodies.
constexpr double kCutoffSigma = 5.5;

class HeatmapDrawing {
 public:
  HeatmapDrawing(const HeatmapSpec& spec, const SkeletonLayout& layout);

  // Allocates for scenes of up to `bodies`; draw() allocates more where it is needed.
  void reserve(int bodies);

  // Writes the tensor [size][size][channels], float32 or int8 depending on the quantizer.
  void draw(const Scene& scene, const Quantizer& quantizer, void* out);

 private:
  void mark_joint(double column, double row, float weight, int channel);
  void mark_limb(const double* start, const double* stop, float weight, int channel);
  void mark_scene(const Scene& scene);
  void draw_band(int first_row, const Quantizer& quantizer, char* out, const char* guard);

  const HeatmapSpec spec_;
  const SkeletonLayout& layout_;
  const Kernels& kernels_;
  const double reach_px_;
  const double unit_px_;  // length in which a map is 2^-distance²
  const int table_;       // floats of a joint's table along one axis
  const int stride_;      // floats of a channel's row
  const int channels_;    // rounded up to a multiple of 4
  std::vector<float> tables_;
  std::vector<JointMark> joints_;
  std::vector<LimbMark> limbs_;
  std::vector<float> band_;
};

}  // namespace har_native
