#include "core/base/bytes.h"

namespace gabion {

std::span<const std::byte> ByteReader::Bytes(size_t size) {
  if (size > rest_.size()) Fail();
  if (!ok_) return {};
  const std::span<const std::byte> bytes = rest_.first(size);
  rest_ = rest_.subspan(size);
  return bytes;
}

std::span<const std::byte> ByteReader::SizedBytes(uint32_t size_max) {
  const uint32_t size = U32();
  if (size > size_max) Fail();
  return Bytes(size);
}

void ByteReader::Fail() {
  ok_ = false;
  rest_ = {};
}

void ByteWriter::Bytes(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (std::byte* to = Extend(bytes.size()); to != nullptr) {
    std::memcpy(to, bytes.data(), bytes.size());
  }
}

void ByteWriter::Zeros(size_t size) {
  if (size == 0) return;
  if (std::byte* to = Extend(size); to != nullptr) std::memset(to, 0, size);
}

void ByteWriter::SizedBytes(std::span<const std::byte> bytes) {
  if (bytes.size() > UINT32_MAX) {
    ok_ = false;
    return;
  }
  U32(static_cast<uint32_t>(bytes.size()));
  Bytes(bytes);
}

std::byte* ByteWriter::Extend(size_t size) {
  if (!ok_) return nullptr;
  if (vector_ != nullptr) {
    vector_->resize(vector_->size() + size);
    size_ += size;
    return vector_->data() + (vector_->size() - size);
  }
  if (size > target_.size() - size_) {
    ok_ = false;
    return nullptr;
  }
  std::byte* to = target_.data() + size_;
  size_ += size;
  return to;
}

}  // namespace gabion
