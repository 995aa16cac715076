#include "sim/run/lockstep.h"

#include <signal.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "core/base/check.h"
#include "core/base/checksum.h"

namespace gabion::sim {

namespace {

constexpr char kGoOn = 'g';
constexpr char kHandOver = 'd';
constexpr size_t kShownBefore = 3;
constexpr uint32_t kTextBytesMax = 1 << 20;  // of one event; more is cut

// What a run says at a checkpoint. Entries follow when it is asked for them.
struct Agreement {
  uint64_t count = 0;  // of events so far
  uint64_t digest_high = 0;
  uint64_t digest_low = 0;
  uint32_t entries = 0;  // since the last checkpoint
  uint32_t last = 0;     // the run is over

  friend bool operator==(const Agreement&, const Agreement&) = default;
};
static_assert(sizeof(Agreement) == 32);

struct EntryHead {
  uint64_t digest = 0;
  uint64_t bytes = 0;
};

bool WriteAll(int fd, const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = write(fd, at, size);
    if (written <= 0) return false;
    at += written;
    size -= static_cast<size_t>(written);
  }
  return true;
}

bool ReadAll(int fd, void* data, size_t size) {
  char* at = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = read(fd, at, size);
    if (got <= 0) return false;
    at += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

const char* KindName(QueueKind kind) {
  constexpr const char* kNames[] = {"delivery", "connect", "disk done", "timer",
                                    "step",     "notice",  "resend",    "action"};
  return kNames[static_cast<size_t>(kind)];
}

// A process that makes one of the runs.
class Runner {
 public:
  Runner(const std::vector<std::string>& command, bool again);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  bool Next(Agreement* word) { return ReadAll(from_, word, sizeof(*word)); }
  bool Answer(char answer) { return WriteAll(to_, &answer, 1); }
  bool TakeEntries(uint32_t count, std::vector<uint64_t>* digests, std::vector<std::string>* texts);

 private:
  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
};

void Append(const char* name, const char* more) {
  const char* old = std::getenv(name);
  setenv(name, old == nullptr ? more : (std::string(old) + ":" + more).c_str(), 1);
}

Runner::Runner(const std::vector<std::string>& command, bool again) {
  int to[2];
  int from[2];
  CHECK_EQ(pipe(to), 0);
  CHECK_EQ(pipe(from), 0);
  pid_ = fork();
  CHECK_GE(pid_, 0);
  if (pid_ == 0) {
    dup2(to[0], STDIN_FILENO);
    dup2(from[1], STDOUT_FILENO);
    for (const int fd : {to[0], to[1], from[0], from[1]}) close(fd);
    std::vector<std::string> words = command;
    if (again) {
      words.push_back("--again");
      // Not permitted everywhere; addresses then differ by chance.
      personality(ADDR_NO_RANDOMIZE);
      setenv("MALLOC_PERTURB_", "90", 1);
      Append("ASAN_OPTIONS", "malloc_fill_byte=90");
    }
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  to_ = to[1];
  from_ = from[0];
}

Runner::~Runner() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  close(to_);
  close(from_);
}

bool Runner::TakeEntries(uint32_t count, std::vector<uint64_t>* digests,
                         std::vector<std::string>* texts) {
  for (uint32_t i = 0; i < count; ++i) {
    EntryHead head;
    if (!ReadAll(from_, &head, sizeof(head)) || head.bytes > kTextBytesMax) return false;
    std::string text(head.bytes, '\0');
    if (!ReadAll(from_, text.data(), text.size())) return false;
    digests->push_back(head.digest);
    texts->push_back(std::move(text));
  }
  return true;
}

// Both have stopped at checkpoints that differ.
Comparison Bisect(Runner& a, const Agreement& of_a, Runner& b, const Agreement& of_b) {
  Comparison result;
  std::array<std::vector<uint64_t>, 2> digests;
  std::array<std::vector<std::string>, 2> texts;
  if (!a.Answer(kHandOver) || !b.Answer(kHandOver) ||
      !a.TakeEntries(of_a.entries, &digests[0], &texts[0]) ||
      !b.TakeEntries(of_b.entries, &digests[1], &texts[1])) {
    result.error = "a run ended before it handed its events over";
    return result;
  }
  // A digest covers all events before it: once different, they stay so.
  size_t low = 0;
  size_t high = std::min(digests[0].size(), digests[1].size());
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (digests[0][middle] == digests[1][middle]) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  result.event = of_a.count - of_a.entries + low + 1;
  for (size_t i = low - std::min(low, kShownBefore); i < low; ++i) result.before += texts[0][i];
  if (low < texts[0].size()) result.first = texts[0][low];
  if (low < texts[1].size()) result.second = texts[1][low];
  return result;
}

}  // namespace

void EventLog::Line(std::string_view line) {
  digest_.Add(Crc32c(std::as_bytes(std::span(line))));
  if (lines_.size() + line.size() > kTextBytesMax / 2) return;
  lines_ += "    ";
  lines_ += line;
  lines_ += '\n';
}

void EventLog::EventEnded(const QueuedEvent& event, const RollingHash& hash) {
  digest_.Add(hash.low);
  digest_.Add(hash.high);
  ++count_;
  entries_.push_back({digest_.low, "  event " + std::to_string(count_) + " at " +
                                       std::to_string(event.time) + " ns: " + KindName(event.kind) +
                                       ", node " + std::to_string(event.node) + "\n" + lines_});
  lines_.clear();
  if (entries_.size() == kEventsPerCheckpoint) Checkpoint(false);
}

void EventLog::Finish(const RollingHash& state) {
  digest_.Add(state.low);
  digest_.Add(state.high);
  Checkpoint(true);
}

void EventLog::Checkpoint(bool last) {
  const Agreement word{.count = count_,
                       .digest_high = digest_.high,
                       .digest_low = digest_.low,
                       .entries = static_cast<uint32_t>(entries_.size()),
                       .last = last ? 1u : 0u};
  char answer = 0;
  if (!WriteAll(out_, &word, sizeof(word)) || !ReadAll(in_, &answer, 1)) _exit(3);
  if (answer == kGoOn) {
    entries_.clear();
    return;
  }
  for (const Entry& entry : entries_) {
    const EntryHead head{.digest = entry.digest, .bytes = entry.text.size()};
    if (!WriteAll(out_, &head, sizeof(head)) ||
        !WriteAll(out_, entry.text.data(), entry.text.size())) {
      _exit(3);
    }
  }
  _exit(0);
}

Comparison Compare(const std::vector<std::string>& first, const std::vector<std::string>& second) {
  signal(SIGPIPE, SIG_IGN);
  Runner a(first, false);
  Runner b(second, true);
  for (;;) {
    Agreement of_a;
    Agreement of_b;
    const bool a_runs = a.Next(&of_a);
    const bool b_runs = b.Next(&of_b);
    if (!a_runs || !b_runs) {
      return {.error = std::string("the ") + (a_runs ? "second" : "first") +
                       " run ended without a word after event " + std::to_string(of_a.count)};
    }
    if (of_a != of_b) return Bisect(a, of_a, b, of_b);
    if (!a.Answer(kGoOn) || !b.Answer(kGoOn)) return {.error = "a run has ended"};
    if (of_a.last != 0) return {.error = {}, .equal = true, .event = of_a.count};
  }
}

std::string Comparison::ToText() const {
  if (!error.empty()) return error + "\n";
  if (equal) return "the same " + std::to_string(event) + " events\n";
  if (first.empty() && second.empty()) {
    return "all events are the same, and what is there at the end differs\n";
  }
  return "event " + std::to_string(event) + " is the first that differs; before it, in both:\n" +
         before + "the first run:\n" + (first.empty() ? "  (it was over)\n" : first) +
         "the second run:\n" + (second.empty() ? "  (it was over)\n" : second);
}

}  // namespace gabion::sim
