#include "cli/endpoints.h"

#include <cstdlib>
#include <optional>
#include <sstream>

#include "cli/files.h"

namespace gabion::cli {

namespace {

std::string UserConfigPath() {
  if (const char* base = std::getenv("XDG_CONFIG_HOME"); base != nullptr && base[0] == '/') {
    return std::string(base) + "/gabion/gabion.conf";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && home[0] == '/') {
    return std::string(home) + "/.config/gabion/gabion.conf";
  }
  return "";
}

Result<std::vector<std::string>> FromFile(const std::string& path, const std::string& text) {
  Result<std::vector<std::string>> found = ParseClientConfig(path, text);
  if (found && found->empty()) {
    return Err(ErrorCode::kInvalidArgument, "%s names no MDM; add a line `mdm = HOST:PORT`",
               path.c_str());
  }
  return found;
}

}  // namespace

Result<std::vector<std::string>> ParseClientConfig(const std::string& file,
                                                   const std::string& text) {
  std::vector<std::string> result;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string trimmed = Trim(line);
    if (trimmed.empty() || trimmed[0] == '#') continue;
    const size_t equals = trimmed.find('=');
    const std::string key = Trim(trimmed.substr(0, equals));
    const std::string value = equals == std::string::npos ? "" : Trim(trimmed.substr(equals + 1));
    if (key != "mdm" || value.empty()) {
      return Err(ErrorCode::kInvalidArgument, "%s:%d: wants lines `mdm = HOST:PORT`", file.c_str(),
                 number);
    }
    result.push_back(value);
  }
  return result;
}

Result<std::vector<std::string>> FindEndpoints(const Common& common) {
  if (!common.mdms.empty()) return common.mdms;
  if (!common.dir.empty()) {
    const std::string path = common.dir + "/gabion.conf";
    const std::optional<std::string> text = ReadFile(path);
    if (!text) {
      return Err(ErrorCode::kNotFound,
                 "--dir=%s: no cluster there (%s cannot be read); make one: gabion dev up --dir=%s",
                 common.dir.c_str(), path.c_str(), common.dir.c_str());
    }
    return FromFile(path, *text);
  }
  if (const char* text = std::getenv("GABION_MDM"); text != nullptr && text[0] != '\0') {
    std::vector<std::string> result;
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
      if (!Trim(part).empty()) result.push_back(Trim(part));
    }
    if (!result.empty()) return result;
  }
  const std::string path = UserConfigPath();
  if (const std::optional<std::string> text = path.empty() ? std::nullopt : ReadFile(path)) {
    return FromFile(path, *text);
  }
  return Err(ErrorCode::kNotFound,
             "no MDM is known; name one with --mdm=HOST:PORT, with GABION_MDM, or with `mdm = "
             "HOST:PORT` in %s; for a cluster of `gabion dev`, --dir=DIR",
             path.empty() ? "~/.config/gabion/gabion.conf" : path.c_str());
}

}  // namespace gabion::cli
