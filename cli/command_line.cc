#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "cli/size.h"

namespace gabion::cli {

namespace {

// Keeps line breaks of examples, which CLI11 would print before the options.
class Formatter : public CLI::Formatter {
 public:
  std::string make_footer(const CLI::App* app) const override {
    const std::string footer = app->get_footer();
    return footer.empty() ? "" : footer + "\n";
  }
};

// Checks and converts in one place: "10G" -> bytes.
CLI::Validator SizeCheck() {
  return CLI::Validator(
      [](std::string& text) {
        const Result<uint64_t> size = ParseSize(text);
        return size ? "" : size.error().message;
      },
      "SIZE");
}

class Grammar {
 public:
  explicit Grammar(Invocation* invocation) : to_(invocation) {
    app_.formatter(std::make_shared<Formatter>());
    app_.require_subcommand(1);
    app_.footer(
        "Examples:\n"
        "  gabion dev up --dir=/tmp/g            a whole cluster on this machine\n"
        "  gabion volume create v1 --size=10G\n"
        "  gabion volume map v1 --sdc=sdc1\n"
        "  gabion status --output=json\n\n"
        "The MDM is found by --mdm, else --dir, else GABION_MDM, else\n"
        "~/.config/gabion/gabion.conf (lines `mdm = HOST:PORT`).\n"
        "Exit codes: 0 done, 1 refused or failed, 2 usage, 3 the MDM cannot be reached.");
    AddStatus();
    AddMdm();
    AddSds();
    AddPool();
    AddDevice();
    AddSlice();
    AddVolume();
    AddSdc();
    AddDev();
    AddStore();
  }

  int Parse(int argc, const char* const* argv) {
    if (const std::string unknown = UnknownCommand(argc, argv); !unknown.empty()) {
      std::fprintf(stderr, "%s\n", unknown.c_str());
      return kExitUsage;
    }
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      // 0 for help; CLI11's own numbers otherwise.
      return app_.exit(error) == 0 ? kExitOk : kExitUsage;
    }
    to_->common.timeout = std::chrono::milliseconds(static_cast<int64_t>(timeout_ * 1000));
    to_->common.output = output_ == "json" ? Output::kJson : Output::kTable;
    return -1;
  }

 private:
  // A word that is no command where one must stand; CLI11 would only say that one is missing.
  std::string UnknownCommand(int argc, const char* const* argv) {
    const CLI::App* app = &app_;
    for (int i = 1; i < argc && argv[i][0] != '-'; ++i) {
      const auto commands = app->get_subcommands([](const CLI::App*) { return true; });
      if (commands.empty()) return "";
      const auto found = std::find_if(commands.begin(), commands.end(), [&](const CLI::App* one) {
        return one->get_name() == argv[i];
      });
      if (found == commands.end()) {
        std::string text = "gabion: no command is called '" + std::string(argv[i]) + "'; there are";
        for (const CLI::App* one : commands) text += " " + one->get_name();
        return text;
      }
      app = *found;
    }
    return "";
  }

  // Options of everything that asks the MDM.
  void AddCommon(CLI::App* app, bool with_dir = true) {
    app->add_option("--output", output_, "table for people, json for programs")
        ->check(CLI::IsMember({"table", "json"}))
        ->capture_default_str();
    if (!with_dir) return;
    app->add_option("--timeout", timeout_, "how long to try, in seconds")
        ->check(CLI::Range(0.0, 86400.0))
        ->capture_default_str();
    app->add_option("--mdm", to_->common.mdms, "HOST:PORT of an MDM; repeatable");
    app->add_option("--dir", to_->common.dir, "folder of a cluster of `gabion dev`");
  }

  CLI::App* AddGroup(const char* name, const char* what) {
    CLI::App* group = app_.add_subcommand(name, what);
    group->require_subcommand(1);
    return group;
  }

  // A command that only sends `request`, which `fill` completes.
  template <class Fill>
  CLI::App* AddCommand(CLI::App* group, const char* name, const char* what, Fill fill) {
    CLI::App* command = group->add_subcommand(name, what);
    AddCommon(command);
    command->callback([this, fill] {
      to_->verb = Verb::kCommand;
      fill(&to_->request);
    });
    return command;
  }

  void AddList(CLI::App* group, Kind kind, const char* what) {
    CLI::App* command = group->add_subcommand("list", what);
    AddCommon(command);
    command->callback([this, kind] {
      to_->verb = Verb::kList;
      to_->kind = kind;
    });
  }

  void AddName(CLI::App* command, const char* what) {
    command->add_option("NAME", name_, what)->required();
  }

  void AddStatus() {
    CLI::App* status = app_.add_subcommand("status", "the cluster at a glance");
    AddCommon(status);
    status->add_flag("--slices", to_->slices, "also every slice with its members");
    status->callback([this] { to_->verb = Verb::kStatus; });
    CLI::App* wait = app_.add_subcommand("wait", "wait until all data has two copies");
    AddCommon(wait);
    wait->callback([this] { to_->verb = Verb::kWait; });
    wait->footer("Example:\n  gabion wait --timeout=300");
  }

  void AddSds() {
    CLI::App* group = AddGroup("sds", "data servers");
    CLI::App* add = AddCommand(group, "add", "let a data server in, by its name",
                               [this](proto::AdminRequest* request) {
                                 proto::SdsAdd* sds = request->mutable_sds_add();
                                 sds->set_name(name_);
                                 sds->set_fault_set(fault_set_);
                                 sds->set_protection_domain(domain_);
                               });
    AddName(add, "the name in its configuration");
    add->add_option("--fault-set", fault_set_,
                    "servers that fail together, such as a rack: never both copies in one");
    add->add_option("--protection-domain", domain_, "servers that share pools");
    add->footer("Example:\n  gabion sds add sds1 --fault-set=rack1");
    AddList(group, Kind::kSds, "all data servers");
    CLI::App* remove = AddCommand(group, "remove", "move its data away and forget a data server",
                                  [this](proto::AdminRequest* request) {
                                    request->mutable_sds_remove()->set_sds(name_);
                                    request->mutable_sds_remove()->set_cancel(cancel_);
                                  });
    AddName(remove, "name or id");
    remove->add_flag("--cancel", cancel_, "it stays after all");
  }

  void AddMdm() {
    CLI::App* group = AddGroup("mdm", "the metadata manager");
    CLI::App* restored =
        AddCommand(group, "restored", "go on with an older copy of the MDM's state folder",
                   [this](proto::AdminRequest* request) {
                     request->mutable_mdm_restored()->set_accept_older_repository(accept_older_);
                   });
    restored->add_flag("--accept-older-repository", accept_older_,
                       "there is no newer state folder: what was created, mapped, grown or removed "
                       "since is as it was then");
    restored->footer(
        "Start the MDM with the copy and `hold = true`, so that it grants nothing before this.\n"
        "No data is lost: each slice is served again as soon as the devices that hold its newest\n"
        "data have said so; `gabion status` shows how far that is.\n"
        "Example:\n  gabion mdm restored --accept-older-repository");
  }

  void AddPool() {
    CLI::App* group = AddGroup("pool", "pools of devices");
    CLI::App* add =
        AddCommand(group, "add", "add an empty pool", [this](proto::AdminRequest* request) {
          request->mutable_pool_add()->set_name(name_);
          request->mutable_pool_add()->set_slice_count(slice_count_);
        });
    AddName(add, "of the new pool");
    add->add_option("--slices", slice_count_,
                    "parts the data is spread over: a power of two, many per device")
        ->check(CLI::Range(1u, 4096u))
        ->capture_default_str();
    add->footer("Example:\n  gabion pool add pool1 --slices=1024");
    AddList(group, Kind::kPool, "all pools");
    CLI::App* remove = AddCommand(
        group, "remove", "remove a pool without volumes and devices",
        [this](proto::AdminRequest* request) { request->mutable_pool_remove()->set_pool(name_); });
    AddName(remove, "name or id");
  }

  void AddDevice() {
    CLI::App* group = AddGroup("device", "disks of data servers");
    CLI::App* add = AddCommand(group, "add", "format a disk or file and add it to a pool",
                               [this](proto::AdminRequest* request) {
                                 proto::DeviceAdd* device = request->mutable_device_add();
                                 device->set_sds(sds_);
                                 device->set_pool(pool_);
                                 device->set_path(name_);
                                 device->set_force(force_);
                                 device->set_test(test_);
                               });
    add->add_option("PATH", name_, "on the data server, such as /dev/disk/by-id/...")->required();
    add->add_option("--sds", sds_, "the data server")->required();
    add->add_option("--pool", pool_, "the pool; not needed when there is only one");
    add->add_flag("--force", force_, "overwrite what is on it");
    const std::map<std::string, proto::DeviceTest> tests = {
        {"none", proto::TEST_NONE}, {"only", proto::TEST_ONLY}, {"activate", proto::TEST_ACTIVATE}};
    add->add_option("--test", test_,
                    "none, only (it is not used afterwards), or activate, the default: about 8 s")
        ->transform(CLI::CheckedTransformer(tests, CLI::ignore_case).description("MODE"));
    add->footer(
        "The test finds out what the device sustains, and whether it keeps what it is given.\n"
        "Examples:\n"
        "  gabion device add /dev/nvme0n1 --sds=sds1 --pool=pool1\n"
        "  gabion device add /dev/sdc --sds=sds1 --test=only");
    AddList(group, Kind::kDevice, "all devices");
    CLI::App* remove = AddCommand(group, "remove", "move the data away and release a device",
                                  [this](proto::AdminRequest* request) {
                                    request->mutable_device_remove()->set_device(name_);
                                    request->mutable_device_remove()->set_cancel(cancel_);
                                  });
    remove->add_option("ID", name_, "as `gabion device list` shows it")->required();
    remove->add_flag("--cancel", cancel_, "it stays after all");
    CLI::App* show = group->add_subcommand("show", "one device, and what its scanner found");
    AddCommon(show);
    show->add_option("ID", to_->name, "as `gabion device list` shows it")->required();
    show->callback([this] { to_->verb = Verb::kShowDevice; });
    CLI::App* scan = AddCommand(
        group, "scan", "read everything on a device now, and repair what is damaged",
        [this](proto::AdminRequest* request) {
          request->mutable_device_scan()->set_device(name_);
          request->mutable_device_scan()->set_bytes_per_second(ParseSize(rate_).value_or(0));
          request->mutable_device_scan()->set_cancel(cancel_);
        });
    scan->add_option("ID", name_, "as `gabion device list` shows it")->required();
    scan->add_option("--rate", rate_, "per second, such as 50M; default: as the SDS is configured")
        ->check(SizeCheck());
    scan->add_flag("--cancel", cancel_, "end the pass that runs");
    scan->footer(
        "Returns at once; `gabion device show ID` tells how far it is and what it found.\n"
        "Example:\n  gabion device scan 7 --rate=50M");
  }

  void AddSlice() {
    CLI::App* group = AddGroup("slice", "the parts that data is spread over");
    CLI::App* list = group->add_subcommand("list", "the cluster, and every slice with its members");
    AddCommon(list);
    list->callback([this] {
      to_->verb = Verb::kStatus;
      to_->slices = true;
    });
    CLI::App* force =
        AddCommand(group, "force", "serve a slice from a copy that may lack acknowledged writes",
                   [this](proto::AdminRequest* request) {
                     proto::SliceForce* slice = request->mutable_slice_force();
                     slice->set_slice(slice_);
                     slice->set_device(device_);
                     slice->set_accept_data_loss(accept_data_loss_);
                   });
    force->add_option("ID", slice_, "as `gabion slice list` shows it")->required();
    force->add_option("--device", device_, "the device whose copy is to serve")->required();
    force->add_flag("--accept-data-loss", accept_data_loss_,
                    "what that copy lacks is lost for good");
    force->footer(
        "The last resort, when all copies that are in sync are lost for good.\n"
        "Example:\n  gabion slice force 1048577 --device=9 --accept-data-loss");
  }

  void AddVolume() {
    CLI::App* group = AddGroup("volume", "volumes");
    CLI::App* create = AddCommand(group, "create", "create a thin, mirrored volume",
                                  [this](proto::AdminRequest* request) {
                                    proto::VolumeCreate* volume = request->mutable_volume_create();
                                    volume->set_name(name_);
                                    volume->set_pool(pool_);
                                    volume->set_size_bytes(ParseSize(size_).value_or(0));
                                  });
    AddName(create, "of the new volume");
    create->add_option("--size", size_, "such as 512M, 10G, 1.5T; whole MiB")
        ->required()
        ->check(SizeCheck());
    create->add_option("--pool", pool_, "the pool; not needed when there is only one");
    create->footer("Example:\n  gabion volume create v1 --size=10G");
    AddList(group, Kind::kVolume, "all volumes and who they are mapped to");
    CLI::App* remove = AddCommand(group, "delete", "delete an unmapped volume and its data",
                                  [this](proto::AdminRequest* request) {
                                    request->mutable_volume_delete()->set_volume(name_);
                                  });
    AddName(remove, "name or id");
    CLI::App* grow = AddCommand(group, "grow", "make a volume larger, also while it is in use",
                                [this](proto::AdminRequest* request) {
                                  proto::VolumeGrow* volume = request->mutable_volume_grow();
                                  volume->set_volume(name_);
                                  volume->set_size_bytes(ParseSize(size_).value_or(0));
                                });
    AddName(grow, "name or id");
    grow->add_option("--size", size_, "the new size")->required()->check(SizeCheck());
    grow->footer("Example:\n  gabion volume grow v1 --size=20G");
    CLI::App* map = AddCommand(group, "map", "let a data client use a volume",
                               [this](proto::AdminRequest* request) {
                                 proto::VolumeMap* volume = request->mutable_volume_map();
                                 volume->set_volume(name_);
                                 volume->set_sdc(sdc_);
                                 volume->set_read_only(read_only_);
                               });
    AddName(map, "name or id");
    map->add_option("--sdc", sdc_, "the data client")->required();
    map->add_flag("--read-only", read_only_, "writes are refused");
    map->footer("Example:\n  gabion volume map v1 --sdc=sdc1\nIt is then the NBD export v1 there.");
    CLI::App* unmap = AddCommand(group, "unmap", "take a volume away from a data client",
                                 [this](proto::AdminRequest* request) {
                                   request->mutable_volume_unmap()->set_volume(name_);
                                   request->mutable_volume_unmap()->set_sdc(sdc_);
                                 });
    AddName(unmap, "name or id");
    unmap->add_option("--sdc", sdc_, "the data client")->required();
  }

  void AddSdc() {
    CLI::App* group = AddGroup("sdc", "data clients");
    CLI::App* add = AddCommand(
        group, "add", "let a data client in, by its name",
        [this](proto::AdminRequest* request) { request->mutable_sdc_add()->set_name(name_); });
    AddName(add, "the name in its configuration");
    add->footer("Example:\n  gabion sdc add sdc1");
    AddList(group, Kind::kSdc, "all data clients");
    CLI::App* remove = AddCommand(
        group, "remove", "forget a data client without volumes",
        [this](proto::AdminRequest* request) { request->mutable_sdc_remove()->set_sdc(name_); });
    AddName(remove, "name or id");
  }

  CLI::App* AddDevCommand(CLI::App* group, const char* name, const char* what, Verb verb) {
    CLI::App* command = group->add_subcommand(name, what);
    command->add_option("--dir", to_->dev.dir, "folder of the cluster")->default_val(".gabion");
    command->callback([this, verb] {
      to_->verb = verb;
      if (!size_.empty()) to_->dev.device_bytes = ParseSize(size_).value_or(0);
    });
    return command;
  }

  void AddDev() {
    CLI::App* group = AddGroup("dev", "a whole cluster of real daemons in a folder");
    group->footer(
        "Examples:\n"
        "  gabion dev up --dir=/tmp/g --sds=3 --devices=2 --device-size=4G\n"
        "  gabion dev kill sds1 --dir=/tmp/g     what does the cluster do without it?\n"
        "  gabion dev start sds1 --dir=/tmp/g\n"
        "  gabion dev down --dir=/tmp/g --delete");
    CLI::App* up =
        AddDevCommand(group, "up", "make and start a cluster, or start it again", Verb::kDevUp);
    DevOptions& dev = to_->dev;
    up->add_option("--sds", dev.sds_count, "data servers")
        ->check(CLI::Range(1u, 64u))
        ->capture_default_str();
    up->add_option("--devices", dev.devices_per_sds, "of each data server; preallocated files")
        ->check(CLI::Range(1u, 64u))
        ->capture_default_str();
    up->add_option("--device-size", size_, "such as 4G")->check(SizeCheck())->default_str("4G");
    up->add_option("--sdcs", dev.sdc_count, "data clients")
        ->check(CLI::Range(0u, 16u))
        ->capture_default_str();
    up->add_option("--slices", dev.slice_count, "of the pool; a power of two")
        ->check(CLI::Range(1u, 4096u))
        ->capture_default_str();
    up->footer("These are used when the folder is new; later the cluster is started as it is.");
    CLI::App* status = AddDevCommand(group, "status", "daemons and cluster", Verb::kDevStatus);
    AddCommon(status, false);
    CLI::App* down = AddDevCommand(group, "down", "end all daemons cleanly", Verb::kDevDown);
    down->add_flag("--delete", dev.delete_files, "delete the cluster's files too");
    for (const auto& [name, what, verb] :
         {std::tuple{"start", "start daemons", Verb::kDevStart},
          std::tuple{"stop", "end daemons cleanly", Verb::kDevStop},
          std::tuple{"kill", "end daemons with SIGKILL, as a crash does", Verb::kDevKill}}) {
      CLI::App* command = AddDevCommand(group, name, what, verb);
      command->add_option("NAME", dev.names, "such as sds1")->required();
    }
  }

  CLI::App* AddStoreCommand(CLI::App* group, const char* name, const char* what, Verb verb) {
    CLI::App* command = group->add_subcommand(name, what);
    command->add_option("DEVICE", to_->store.path, "a disk or file, while nobody uses it")
        ->required();
    command->callback([this, verb] { to_->verb = verb; });
    return command;
  }

  void AddStore() {
    CLI::App* group = AddGroup("store", "a device of a data server, on this machine; read-only");
    AddStoreCommand(group, "check", "read and verify everything on it", Verb::kStoreCheck)
        ->footer(
            "Example:\n  gabion store check /dev/nvme0n1\n"
            "Exit codes: 0 good, 10 worn but nothing is lost, 11 some data is damaged,\n"
            "12 a data server would not open it; 1 it is in use or cannot be read.");
    CLI::App* dump =
        AddStoreCommand(group, "dump", "what it holds, for debugging", Verb::kStoreDump);
    StoreOptions& store = to_->store;
    dump->add_flag("--superblocks", store.superblocks, "both copies (when nothing else is asked)");
    dump->add_flag("--log", store.log, "the batches since the checkpoint, with their records");
    dump->add_flag("--slices", store.slices, "the durable facts of each replica");
    dump->add_option("--chunk", store.chunk, "SLICE:VTREE:CHUNK: where each of its blocks is");
    dump->footer("Example:\n  gabion store dump /dev/nvme0n1 --slices --chunk=1f:7:3");
  }

  Invocation* to_;
  CLI::App app_{"gabion - administer a Gabion cluster", "gabion"};
  std::string output_ = "table";
  double timeout_ = 10;
  std::string name_;
  std::string sds_;
  std::string sdc_;
  std::string pool_;
  std::string size_;
  std::string fault_set_;
  std::string domain_;
  uint32_t slice_count_ = 1024;
  uint64_t slice_ = 0;
  uint64_t device_ = 0;
  std::string rate_;
  bool accept_data_loss_ = false;
  bool accept_older_ = false;
  bool cancel_ = false;
  bool force_ = false;
  proto::DeviceTest test_ = proto::TEST_ACTIVATE;
  bool read_only_ = false;
};

}  // namespace

std::optional<Invocation> ParseCommandLine(int argc, const char* const* argv, int* exit_code) {
  Invocation invocation;
  Grammar grammar(&invocation);
  *exit_code = grammar.Parse(argc, argv);
  if (*exit_code >= 0) return std::nullopt;
  return invocation;
}

}  // namespace gabion::cli
