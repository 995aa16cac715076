// Under AddressSanitizer, memory that is kept for reuse may be touched by nobody until it is handed
// out again; whoever does is reported. Elsewhere nothing happens.
#pragma once

#include <cstddef>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define GABION_ADDRESS_SANITIZER
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define GABION_ADDRESS_SANITIZER
#endif
#ifdef GABION_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace gabion::internal {

inline void Poison([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef GABION_ADDRESS_SANITIZER
  __asan_poison_memory_region(memory, bytes);
#endif
}
inline void Unpoison([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef GABION_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace gabion::internal
