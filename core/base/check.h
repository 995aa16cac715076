// Assertions against our own bugs: always on, in every build. Never on what a peer, a disk or a
// user controls.
//
//   CHECK(count <= count_max);
//   CHECK_EQ(slice.size(), size) << "slice " << id;
//
// A failure prints one line to stderr (file, line, condition, values, text) and calls abort(). It
// needs no heap, but for values whose ToString does. A host that wants the seed or the tag in the
// output prints them in a SIGABRT handler. Operands are evaluated once; integers of different
// signedness compare by value.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

namespace gabion::internal {

// Begins the line: "file:line: CHECK failed: condition". Holds stderr's lock until abort().
void BeginFailure(const char* file, int line, const char* condition);
void Print(std::string_view text);
void Print(int64_t value);
void Print(uint64_t value);
void Print(double value);
void Print(const void* pointer);

[[noreturn]] void Unreachable(const char* file, int line, std::string_view text = {});

template <class T>
concept PlainInteger = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char> &&
                       !std::same_as<T, wchar_t> && !std::same_as<T, char8_t> &&
                       !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;

// Integers, enumerations, texts, ids, times, pointers, and whatever has a ToString; "?" for the
// rest.
template <class T>
void PrintValue(const T& value) {
  if constexpr (std::same_as<T, bool>) {
    Print(value ? std::string_view("true") : std::string_view("false"));
  } else if constexpr (std::same_as<T, char>) {
    Print(std::string_view(&value, 1));
  } else if constexpr (std::is_null_pointer_v<T>) {
    Print(std::string_view("null"));
  } else if constexpr (std::same_as<T, const char*> || std::same_as<T, char*>) {
    Print(value == nullptr ? std::string_view("null") : std::string_view(value));
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    Print(std::string_view(value));
  } else if constexpr (std::signed_integral<T>) {
    Print(static_cast<int64_t>(value));
  } else if constexpr (std::unsigned_integral<T>) {
    Print(static_cast<uint64_t>(value));
  } else if constexpr (std::floating_point<T>) {
    Print(static_cast<double>(value));
  } else if constexpr (std::is_pointer_v<T>) {
    Print(static_cast<const void*>(value));
  } else if constexpr (requires { ToString(value); }) {
    Print(std::string_view(ToString(value)));
  } else if constexpr (std::is_enum_v<T>) {
    PrintValue(static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (requires { value.time_since_epoch().count(); }) {
    PrintValue(value.time_since_epoch().count());
  } else if constexpr (requires { value.count(); }) {
    PrintValue(value.count());
  } else {
    Print(std::string_view("?"));
  }
}

// The end of a failed CHECK: takes the text, then aborts.
class Failure {
 public:
  Failure() = default;
  Failure(const char* file, int line, const char* condition) {
    BeginFailure(file, line, condition);
    Print(std::string_view(" "));
  }
  Failure(const Failure&) = delete;
  Failure& operator=(const Failure&) = delete;
  [[noreturn]] ~Failure();

  template <class T>
  Failure& operator<<(const T& value) {
    PrintValue(value);
    return *this;
  }
};

template <class A, class B>
[[gnu::cold, gnu::noinline]] void BeginComparisonFailure(const A& a, const B& b, const char* file,
                                                         int line, const char* condition) {
  BeginFailure(file, line, condition);
  Print(std::string_view(" ("));
  PrintValue(a);
  Print(std::string_view(" vs "));
  PrintValue(b);
  Print(std::string_view(") "));
}

#define GABION_INTERNAL_COMPARISON(name, op, cmp)                                 \
  template <class A, class B>                                                     \
  constexpr bool name(const A& a, const B& b) {                                   \
    if constexpr (PlainInteger<A> && PlainInteger<B>) {                           \
      return std::cmp(a, b);                                                      \
    } else {                                                                      \
      return a op b;                                                              \
    }                                                                             \
  }                                                                               \
  template <class A, class B>                                                     \
  constexpr bool name##Failed(const A& a, const B& b, const char* file, int line, \
                              const char* condition) {                            \
    if (name(a, b)) [[likely]]                                                    \
      return false;                                                               \
    BeginComparisonFailure(a, b, file, line, condition);                          \
    return true;                                                                  \
  }
GABION_INTERNAL_COMPARISON(CheckEq, ==, cmp_equal)
GABION_INTERNAL_COMPARISON(CheckNe, !=, cmp_not_equal)
GABION_INTERNAL_COMPARISON(CheckLt, <, cmp_less)
GABION_INTERNAL_COMPARISON(CheckLe, <=, cmp_less_equal)
GABION_INTERNAL_COMPARISON(CheckGt, >, cmp_greater)
GABION_INTERNAL_COMPARISON(CheckGe, >=, cmp_greater_equal)
#undef GABION_INTERNAL_COMPARISON

}  // namespace gabion::internal

// `while`, because it swallows no `else` of the caller and takes `<<` after the macro; it never
// loops.
#define CHECK(condition)                                         \
  while (__builtin_expect(!static_cast<bool>(condition), false)) \
  ::gabion::internal::Failure(__FILE__, __LINE__, #condition)

#define GABION_INTERNAL_CHECK_OP(name, op, a, b)                                                 \
  while (__builtin_expect(                                                                       \
      ::gabion::internal::name##Failed((a), (b), __FILE__, __LINE__, #a " " #op " " #b), false)) \
  ::gabion::internal::Failure()

#define CHECK_EQ(a, b) GABION_INTERNAL_CHECK_OP(CheckEq, ==, a, b)
#define CHECK_NE(a, b) GABION_INTERNAL_CHECK_OP(CheckNe, !=, a, b)
#define CHECK_LT(a, b) GABION_INTERNAL_CHECK_OP(CheckLt, <, a, b)
#define CHECK_LE(a, b) GABION_INTERNAL_CHECK_OP(CheckLe, <=, a, b)
#define CHECK_GT(a, b) GABION_INTERNAL_CHECK_OP(CheckGt, >, a, b)
#define CHECK_GE(a, b) GABION_INTERNAL_CHECK_OP(CheckGe, >=, a, b)

// The end of a `switch` that handles every case: UNREACHABLE(); or UNREACHABLE("why not");
#define UNREACHABLE(...) \
  ::gabion::internal::Unreachable(__FILE__, __LINE__ __VA_OPT__(, ) __VA_ARGS__)
