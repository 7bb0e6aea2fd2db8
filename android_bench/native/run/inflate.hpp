// Reading deflate streams (RFC 1951) and CRC-32, as ZIP archives have them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace har_native {

// The content of a raw deflate stream, which is `size` bytes long and needs all of the input.
// Throws Error (HAR_BAD_DATA): the stream is cut off, breaks the format, or has another length.
std::vector<uint8_t> inflate(const uint8_t* data, size_t bytes, size_t size);

uint32_t crc32(const uint8_t* data, size_t bytes);

}  // namespace har_native
