"""C++ from a .proto by the system's protoc."""

def proto_cc_library(name, srcs, proto_deps = [], deps = [], **kwargs):
    """A library of the generated .pb.h and .pb.cc.

    Args:
      name: the library; include its headers as "path/from/root/file.pb.h".
      srcs: .proto files of this package; they import each other by path from the root.
      proto_deps: .proto files (labels) of other packages that srcs import.
      deps: the proto_cc_library targets of those packages.
      **kwargs: passed to cc_library.
    """
    outs_cc = [s.replace(".proto", ".pb.cc") for s in srcs]
    outs_h = [s.replace(".proto", ".pb.h") for s in srcs]
    locations = " ".join(["$(location %s)" % s for s in srcs])
    headers = " ".join(["$(location %s)" % h for h in outs_h])
    native.genrule(
        name = name + "_protoc",
        srcs = srcs + proto_deps,
        outs = outs_cc + outs_h,
        # The pragma keeps warnings in generated headers away from the files that include them.
        cmd = "/usr/bin/protoc --proto_path=. --cpp_out=$(GENDIR) " + locations +
              " && sed -i '1i #pragma GCC system_header' " + headers,
    )
    native.cc_library(
        name = name,
        srcs = outs_cc,
        hdrs = outs_h,
        copts = ["-w"],
        linkstatic = True,
        deps = deps + ["@system//:protobuf"],
        visibility = kwargs.pop("visibility", ["//visibility:public"]),
        **kwargs
    )
