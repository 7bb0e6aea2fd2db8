#include "layouts.hpp"

#include "errors.hpp"

namespace har_native {
namespace {

constexpr Limb kNtuLimbs[] = {{0, 1},   {1, 20},  {2, 20},  {3, 2},   {4, 20},  {5, 4},   {6, 5},   {7, 6},
                              {8, 20},  {9, 8},   {10, 9},  {11, 10}, {12, 0},  {13, 12}, {14, 13}, {15, 14},
                              {16, 0},  {17, 16}, {18, 17}, {19, 18}, {21, 7},  {22, 7},  {23, 11}, {24, 11}};
constexpr Limb kMsrLimbs[] = {{0, 1},  {1, 2},   {2, 3},   {2, 4},   {4, 5},   {5, 6},  {6, 7},
                              {2, 8},  {8, 9},   {9, 10},  {10, 11}, {0, 12},  {12, 13}, {13, 14},
                              {14, 15}, {0, 16}, {16, 17}, {17, 18}, {18, 19}};
constexpr SkeletonLayout kLayouts[] = {{"ntu25", 25, 0, 20, kNtuLimbs, 24}, {"msr20", 20, 0, 2, kMsrLimbs, 19}};

}  // namespace

const SkeletonLayout& find_layout(const std::string& name) {
  for (const SkeletonLayout& layout : kLayouts) {
    if (name == layout.name) return layout;
  }
  bad_data("layout is '" + name.substr(0, 40) + "'; use one of ntu25, msr20");
}

}  // namespace har_native
