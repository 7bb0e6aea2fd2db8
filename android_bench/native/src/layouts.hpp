// Skeleton layouts, as preprocess/layouts.py: indices are 0-based.
#pragma once

#include <string>

namespace har_native {

struct Limb {
  int a, b;  // joints
};

struct SkeletonLayout {
  const char* name;
  int joint_count;
  int pelvis;
  int shoulder_center;
  const Limb* limbs;
  int limb_count;
};

// Throws Error (HAR_BAD_DATA) when no layout has the name.
const SkeletonLayout& find_layout(const std::string& name);

}  // namespace har_native
