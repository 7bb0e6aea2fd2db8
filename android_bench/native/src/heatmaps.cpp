#include "heatmaps.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace har_native {
namespace {

constexpr int kBandRows = 16;  // rows drawn for all channels before they are written, so that they stay in the cache

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

double unit_px(double sigma_px) { return sigma_px * std::sqrt(2 * std::log(2.0)); }

// Pixels 0 <= i < size within `reach` of the interval [low, high].
struct Range {
  int first, last;  // first <= i < last
};

Range pixels_around(double low, double high, double reach, int size) {
  const double first = std::ceil(low - reach), last = std::floor(high + reach) + 1;
  const auto limited = [size](double value) { return static_cast<int>(std::clamp(value, 0.0, double(size))); };
  return {limited(first), limited(last)};
}

}  // namespace

HeatmapDrawing::HeatmapDrawing(const HeatmapSpec& spec, const SkeletonLayout& layout)
    : spec_(spec),
      layout_(layout),
      kernels_(kernels()),
      reach_px_(kCutoffSigma * spec.sigma_px),
      unit_px_(unit_px(spec.sigma_px)),
      table_(static_cast<int>(std::min(2 * reach_px_ + 2, double(spec.size))) + kRowPadding),
      stride_(round_up(spec.size, 8) + kRowPadding),
      channels_(round_up(spec.channels(), 4)),
      band_(static_cast<size_t>(kBandRows) * static_cast<size_t>(channels_) * static_cast<size_t>(stride_)) {}

void HeatmapDrawing::reserve(int bodies) {
  const auto drawn = static_cast<size_t>(std::min(bodies, spec_.max_bodies)) * 3 *
                     static_cast<size_t>(spec_.sampled_frames);
  const size_t joints = drawn * static_cast<size_t>(layout_.joint_count);
  joints_.reserve(joints);
  limbs_.reserve(drawn * static_cast<size_t>(layout_.limb_count));
  const size_t floats = joints * 2 * static_cast<size_t>(table_);
  if (tables_.size() < floats) tables_.resize(floats);
}

void HeatmapDrawing::draw(const Scene& scene, const Quantizer& quantizer, void* out) {
  mark_scene(scene);
  const size_t element = quantizer.int8 ? 1 : sizeof(float);
  const size_t row_bytes = static_cast<size_t>(spec_.size) * static_cast<size_t>(spec_.channels()) * element;
  char* bytes = static_cast<char*>(out);
  const char* guard = bytes + row_bytes * static_cast<size_t>(spec_.size);
  for (int row = 0; row < spec_.size; row += kBandRows) {
    draw_band(row, quantizer, bytes + row_bytes * static_cast<size_t>(row), guard);
  }
}

void HeatmapDrawing::mark_scene(const Scene& scene) {
  joints_.clear();
  limbs_.clear();
  if (!scene.bodies) return;
  reserve(scene.bodies);
  const int count = layout_.joint_count;
  const double* points = scene.points.data();
  for (int frame = 0; frame < spec_.sampled_frames; ++frame) {
    for (int view = 0; view < 3; ++view) {
      const float* weights = scene.weights.data() + static_cast<ptrdiff_t>(frame) * scene.bodies * count;
      for (int body = 0; body < scene.bodies; ++body, points += 2 * count, weights += count) {
        for (int j = 0; j < count; ++j) {
          if (weights[j] > 0) mark_joint(points[2 * j], points[2 * j + 1], weights[j], 6 * frame + view);
        }
        for (int i = 0; i < layout_.limb_count; ++i) {
          const Limb& limb = layout_.limbs[i];
          const float weight = std::min(weights[limb.a], weights[limb.b]);
          if (weight > 0) mark_limb(points + 2 * limb.a, points + 2 * limb.b, weight, 6 * frame + 3 + view);
        }
      }
    }
  }
}

void HeatmapDrawing::mark_joint(double column, double row, float weight, int channel) {
  const Range columns = pixels_around(column, column, reach_px_, spec_.size);
  const Range rows = pixels_around(row, row, reach_px_, spec_.size);
  if (columns.first >= columns.last || rows.first >= rows.last) return;
  float* table = tables_.data() + joints_.size() * 2 * static_cast<size_t>(table_);
  const float step = static_cast<float>(1 / unit_px_);
  kernels_.gaussian(static_cast<float>(columns.first - column), step, 1.0f, columns.last - columns.first, table);
  kernels_.gaussian(static_cast<float>(rows.first - row), step, weight, rows.last - rows.first, table + table_);
  joints_.push_back({table, table + table_, columns.first, columns.last, rows.first, rows.last, channel});
}

void HeatmapDrawing::mark_limb(const double* start, const double* stop, float weight, int channel) {
  if (start[0] > stop[0]) std::swap(start, stop);  // draw_limb takes limbs from left to right
  const Range columns = pixels_around(start[0], stop[0], reach_px_, spec_.size);
  const Range rows =
      pixels_around(std::min(start[1], stop[1]), std::max(start[1], stop[1]), reach_px_, spec_.size);
  if (columns.first >= columns.last || rows.first >= rows.last) return;
  const double length = std::hypot(stop[0] - start[0], stop[1] - start[1]);
  // a limb seen end-on is a point; any direction will do
  const double along_column = length > 0 ? (stop[0] - start[0]) / length : 1.0;
  const double along_row = length > 0 ? (stop[1] - start[1]) / length : 0.0;
  const double column = columns.first, row = rows.first;
  const auto units = [this](double px) { return static_cast<float>(px / unit_px_); };
  LimbMark mark;
  mark.across = units((column - start[0]) * along_row - (row - start[1]) * along_column);
  mark.before = units((start[0] - column) * along_column + (start[1] - row) * along_row);
  mark.after = units((column - stop[0]) * along_column + (row - stop[1]) * along_row);
  mark.across_column = units(along_row);
  mark.across_row = units(-along_column);
  mark.along_column = units(along_column);
  mark.along_row = units(along_row);
  mark.weight = weight;
  mark.first_column = columns.first;
  mark.last_column = columns.last;
  mark.first_row = rows.first;
  mark.last_row = rows.last;
  mark.channel = channel;
  limbs_.push_back(mark);
}

void HeatmapDrawing::draw_band(int first_row, const Quantizer& quantizer, char* out, const char* guard) {
  const int last_row = std::min(first_row + kBandRows, spec_.size);
  Band band{band_.data(), kBandRows, stride_, first_row, last_row};
  int first = spec_.size, last = 0;  // columns that any mark reaches
  const auto touches = [&](const auto& mark) { return mark.first_row < last_row && mark.last_row > first_row; };
  const auto widen = [&](const auto& mark) {
    if (!touches(mark)) return;
    first = std::min(first, mark.first_column);
    last = std::max(last, mark.last_column);
  };
  std::for_each(joints_.begin(), joints_.end(), widen);
  std::for_each(limbs_.begin(), limbs_.end(), widen);
  first = first / 8 * 8;
  last = first < last ? std::min(round_up(last, 8), spec_.size) : first;

  if (first < last) {
    // clears also the floats beyond `last` that kernels write, since finish_row reads complete vectors
    const size_t cleared = static_cast<size_t>(round_up(last, 8) - first) * sizeof(float);
    for (int line = 0; line < kBandRows * channels_; ++line) {
      std::memset(band.pixels + static_cast<ptrdiff_t>(line) * stride_ + first, 0, cleared);
    }
    for (const JointMark& mark : joints_) {
      if (touches(mark)) kernels_.draw_joint(mark, band);
    }
    const float reach = static_cast<float>(reach_px_ / unit_px_);
    for (const LimbMark& mark : limbs_) {
      if (touches(mark)) kernels_.draw_limb(mark, band, reach);
    }
  }

  const size_t pixel_bytes = static_cast<size_t>(spec_.channels()) * (quantizer.int8 ? 1 : sizeof(float));
  const float zero = std::clamp(quantizer.zero_point, -128.0f, 127.0f);
  const int background = quantizer.int8 ? static_cast<int>(zero) : 0;
  for (int row = first_row; row < last_row; ++row) {
    std::memset(out, background, static_cast<size_t>(first) * pixel_bytes);
    std::memset(out + static_cast<size_t>(last) * pixel_bytes, background,
                static_cast<size_t>(spec_.size - last) * pixel_bytes);
    if (first < last) {
      float* pixels = band.pixels + static_cast<ptrdiff_t>(row - first_row) * stride_;
      kernels_.finish_row(pixels, kBandRows * stride_, spec_.sampled_frames, first, last, quantizer, out, guard);
    }
    out += static_cast<size_t>(spec_.size) * pixel_bytes;
  }
}

}  // namespace har_native
