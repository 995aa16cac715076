#include "cli/files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

namespace gabion::cli {

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) return std::nullopt;
  return text;
}

Result<void> WriteFile(const std::string& path, const std::string& text) {
  const std::string beside = path + ".new";
  std::ofstream file(beside, std::ios::trunc);
  file << text;
  file.close();
  if (!file || std::rename(beside.c_str(), path.c_str()) != 0) {
    return Err(ErrorCode::kIoError, "cannot write %s: %s", path.c_str(), std::strerror(errno));
  }
  return {};
}

std::string Trim(std::string_view text) {
  const char* const kBlank = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kBlank) - begin + 1));
}

std::string Tail(const std::string& path, size_t lines) {
  const std::optional<std::string> text = ReadFile(path);
  if (!text || text->empty()) return "  (empty)\n";
  size_t begin = text->size() - (text->back() == '\n' ? 1 : 0);
  for (size_t found = 0; begin > 0; --begin) {
    if ((*text)[begin - 1] == '\n' && ++found == lines) break;
  }
  std::string result = "  ";
  for (const char c : text->substr(begin)) {
    result += c;
    if (c == '\n') result += "  ";
  }
  while (!result.empty() && (result.back() == ' ' || result.back() == '\n')) result.pop_back();
  return result + "\n";
}

}  // namespace gabion::cli
