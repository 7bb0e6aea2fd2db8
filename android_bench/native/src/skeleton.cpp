#include "skeleton.hpp"

#include <algorithm>
#include <cmath>

#include "errors.hpp"

namespace har_native {
namespace {

constexpr float kMaxCoordinateM = 1e6f;
constexpr int kViews[3][2] = {{0, 1}, {0, 2}, {2, 1}};  // (column, row) axes of XY, XZ, YZ in (x, -y, z)

// NumPy's pairwise sum of fewer than 129 numbers: eight partial sums.
double numpy_sum(const double* values, int count) {
  double partial[8];
  for (int i = 0; i < 8; ++i) partial[i] = values[i];
  int i = 8;
  for (; i + 8 <= count; i += 8) {
    for (int k = 0; k < 8; ++k) partial[k] += values[i + k];
  }
  double sum = ((partial[0] + partial[1]) + (partial[2] + partial[3])) +
               ((partial[4] + partial[5]) + (partial[6] + partial[7]));
  for (; i < count; ++i) sum += values[i];
  return sum;
}

double distance(const float* a, const float* b) {
  double sum = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const double difference = double{a[axis]} - double{b[axis]};
    sum += difference * difference;
  }
  return std::sqrt(sum);
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

}  // namespace

int64_t copy_valid_joints(const float* joints, const float* confidence, int64_t count, float* joints_out,
                          float* confidence_out) {
  for (int64_t i = 0; i < count; ++i) {
    if (!(confidence[i] >= 0 && confidence[i] <= 1)) {
      bad_data("confidence " + text(confidence[i]) + " lies outside [0, 1]; map the sensor's scale to it");
    }
  }
  int64_t invalid = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float* joint = joints + 3 * i;
    const bool valid = std::fabs(joint[0]) <= kMaxCoordinateM && std::fabs(joint[1]) <= kMaxCoordinateM &&
                       std::fabs(joint[2]) <= kMaxCoordinateM;
    for (int axis = 0; axis < 3; ++axis) joints_out[3 * i + axis] = valid ? joint[axis] : 0.0f;
    confidence_out[i] = valid ? confidence[i] : 0.0f;
    invalid += !valid;
  }
  return invalid;
}

void SceneMaker::reserve(int64_t frames, int bodies) {
  const auto joints = static_cast<size_t>(layout_.joint_count);
  const size_t drawn = static_cast<size_t>(std::min(bodies, spec_.max_bodies)) * joints *
                       static_cast<size_t>(spec_.sampled_frames);
  selected_.reserve(static_cast<size_t>(bodies));
  motions_.reserve(static_cast<size_t>(bodies));
  present_.reserve(static_cast<size_t>(frames));
  torsos_.reserve(static_cast<size_t>(frames));
  mean_.resize(3 * joints);
  squares_.resize(3 * joints);
  scene_.points.reserve(drawn * 6);
  scene_.weights.reserve(drawn);
}

uint32_t SceneMaker::make(const Frames& frames) {
  reserve(frames.count, frames.bodies);
  select_bodies(frames);
  scene_.bodies = static_cast<int>(selected_.size());
  if (selected_.empty()) return HAR_NOTE_NO_BODY;
  double origin[3], torso_m;
  const uint32_t notes = normalize(frames, origin, &torso_m);
  project(frames, origin, torso_m);
  return notes;
}

void SceneMaker::select_bodies(const Frames& frames) {
  selected_.clear();
  motions_.clear();
  for (int body = 0; body < frames.bodies; ++body) {
    motions_.push_back(motion(frames, body));
    if (motions_.back() < 0) continue;
    // by insertion: the most motion first, the recording's order where it is equal
    auto at = selected_.end();
    while (at != selected_.begin() && motions_[static_cast<size_t>(*(at - 1))] < motions_.back()) --at;
    selected_.insert(at, body);
  }
  if (selected_.size() > static_cast<size_t>(spec_.max_bodies)) selected_.resize(static_cast<size_t>(spec_.max_bodies));
}

// Variance of the position over the frames in which the body is present, summed over joints and axes; -1 for a body
// that is never present or whose mean confidence there is too low. The sums are NumPy's, term by term.
double SceneMaker::motion(const Frames& frames, int body) {
  const int joints = layout_.joint_count;
  int64_t present_count = 0;
  double confidence_sum = 0;
  present_.assign(static_cast<size_t>(frames.count), 0);
  std::fill(mean_.begin(), mean_.end(), 0.0);
  for (int64_t t = 0; t < frames.count; ++t) {
    const float* confidence = frames.confidence_of(t, body);
    double sum = 0;
    for (int j = 0; j < joints; ++j) sum += double{confidence[j]};
    if (sum == 0) continue;
    present_[static_cast<size_t>(t)] = 1;
    ++present_count;
    confidence_sum += sum;
    const float* position = frames.joints_of(t, body);
    for (int i = 0; i < 3 * joints; ++i) mean_[static_cast<size_t>(i)] += double{position[i]};
  }
  const double count = static_cast<double>(present_count);
  if (!present_count || confidence_sum / (count * joints) < double{static_cast<float>(spec_.min_confidence)}) return -1;

  for (double& value : mean_) value /= count;
  std::fill(squares_.begin(), squares_.end(), 0.0);
  for (int64_t t = 0; t < frames.count; ++t) {
    if (!present_[static_cast<size_t>(t)]) continue;
    const float* position = frames.joints_of(t, body);
    for (int i = 0; i < 3 * joints; ++i) {
      const double difference = double{position[i]} - mean_[static_cast<size_t>(i)];
      squares_[static_cast<size_t>(i)] += difference * difference;
    }
  }
  for (double& value : squares_) value /= count;
  return numpy_sum(squares_.data(), 3 * joints);
}

uint32_t SceneMaker::normalize(const Frames& frames, double (&origin)[3], double* torso_m) {
  const float least = static_cast<float>(spec_.min_confidence);
  const int body = selected_[0], pelvis = layout_.pelvis, shoulders = layout_.shoulder_center;
  int64_t pelvis_frame = -1, first_frame = -1;  // the first that shows the pelvis, and the first that shows any joint
  torsos_.clear();
  for (int64_t t = 0; t < frames.count; ++t) {
    const float* confidence = frames.confidence_of(t, body);
    const float* joints = frames.joints_of(t, body);
    if (confidence[pelvis] >= least) {
      if (pelvis_frame < 0) pelvis_frame = t;
      if (confidence[shoulders] >= least) torsos_.push_back(distance(joints + 3 * shoulders, joints + 3 * pelvis));
    }
    if (first_frame < 0 && *std::max_element(confidence, confidence + layout_.joint_count) >= least) first_frame = t;
  }

  uint32_t notes = 0;
  std::fill(origin, origin + 3, 0.0);
  if (pelvis_frame >= 0) {
    std::copy_n(frames.joints_of(pelvis_frame, body) + 3 * pelvis, 3, origin);
  } else {
    notes |= HAR_NOTE_NO_PELVIS;
    const int64_t frame = std::max<int64_t>(first_frame, 0);  // one exists: the mean confidence reaches the minimum
    int visible = 0;
    for (int j = 0; j < layout_.joint_count; ++j) {
      if (frames.confidence_of(frame, body)[j] < least) continue;
      ++visible;
      for (int axis = 0; axis < 3; ++axis) origin[axis] += double{frames.joints_of(frame, body)[3 * j + axis]};
    }
    for (double& value : origin) value /= std::max(visible, 1);
  }

  *torso_m = torsos_.empty() ? 0.0 : median(torsos_);
  if (*torso_m <= spec_.min_torso_m) {
    notes |= HAR_NOTE_NO_TORSO;
    *torso_m = spec_.default_torso_m;
  }
  return notes;
}

void SceneMaker::project(const Frames& frames, const double (&origin)[3], double torso_m) {
  const float least = static_cast<float>(spec_.min_confidence);
  scene_.points.clear();
  scene_.weights.clear();
  for (int segment = 0; segment < spec_.sampled_frames; ++segment) {
    const int64_t frame = (2 * segment + 1) * frames.count / (2 * spec_.sampled_frames);
    for (const auto& view : kViews) {
      for (const int body : selected_) {
        const float* joints = frames.joints_of(frame, body);
        for (int j = 0; j < layout_.joint_count; ++j) {
          for (const int axis : view) {
            double value = (double{joints[3 * j + axis]} - origin[axis]) / torso_m;
            if (axis == 1) value = -value;
            scene_.points.push_back((value / spec_.field_of_view_torso + 1) / 2 * (spec_.size - 1));
          }
        }
      }
    }
    for (const int body : selected_) {
      const float* confidence = frames.confidence_of(frame, body);
      for (int j = 0; j < layout_.joint_count; ++j) {
        scene_.weights.push_back(confidence[j] >= least ? confidence[j] : 0.0f);
      }
    }
  }
}

}  // namespace har_native
