// From recorded joints to points in pixels: everything of preprocess/heatmaps.py before the drawing.
#pragma once

#include <cstdint>
#include <vector>

#include "spec.hpp"

namespace har_native {

// Frames in order of time, in a ring; a ring that is full from its first slot on is an ordinary array.
struct Frames {
  const float* joints;      // [capacity][bodies][joint_count][3], invalid joints already zero
  const float* confidence;  // [capacity][bodies][joint_count]
  int64_t count, capacity, first;
  int bodies, joint_count;

  int64_t slot(int64_t frame) const {
    const int64_t at = first + frame;
    return at < capacity ? at : at - capacity;
  }
  const float* joints_of(int64_t frame, int body) const {
    return joints + (slot(frame) * bodies + body) * joint_count * 3;
  }
  const float* confidence_of(int64_t frame, int body) const {
    return confidence + (slot(frame) * bodies + body) * joint_count;
  }
};

// Copies joints; those with a coordinate that is not finite or beyond 1e6 m get position 0 and confidence 0. Returns
// their number. Throws Error (HAR_BAD_DATA) on a confidence outside [0, 1], before anything is written.
int64_t copy_valid_joints(const float* joints, const float* confidence, int64_t count, float* joints_out,
                          float* confidence_out);

// Points to draw: points [sampled_frames][3 views][bodies][joints][column, row] in pixels, weights [sampled_frames]
// [bodies][joints], 0 for a joint that is not drawn.
struct Scene {
  int bodies = 0;
  std::vector<double> points;
  std::vector<float> weights;
};

class SceneMaker {
 public:
  SceneMaker(const HeatmapSpec& spec, const SkeletonLayout& layout) : spec_(spec), layout_(layout) {}

  // Allocates for recordings up to this size; make() allocates more where it is needed.
  void reserve(int64_t frames, int bodies);

  // Returns the notes (HAR_NOTE_NO_BODY, ...); the scene is valid until the next call.
  uint32_t make(const Frames& frames);
  const Scene& scene() const { return scene_; }

 private:
  void select_bodies(const Frames& frames);
  double motion(const Frames& frames, int body);
  uint32_t normalize(const Frames& frames, double (&origin)[3], double* torso_m);
  void project(const Frames& frames, const double (&origin)[3], double torso_m);

  const HeatmapSpec spec_;
  const SkeletonLayout& layout_;
  Scene scene_;
  std::vector<int> selected_;       // bodies, most motion first
  std::vector<double> motions_;     // by body
  std::vector<uint8_t> present_;    // by frame, of the current body
  std::vector<double> torsos_;      // metres
  std::vector<double> mean_, squares_;  // by joint and axis
};

}  // namespace har_native
