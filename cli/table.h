// Columns for people: headings, then rows; numbers to the right.
#pragma once

#include <string>
#include <vector>

namespace gabion::cli {

class Table {
 public:
  // A heading that begins with '>' makes its column right-aligned; the mark is not printed.
  explicit Table(std::vector<std::string> headings);

  // As many cells as headings. Control characters are replaced: names may come from elsewhere.
  void AddRow(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }

  // Every line ends with a newline and has no blanks before it.
  std::string ToString() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::string> headings_;
};

}  // namespace gabion::cli
