// The cluster's status for people and programs.
#pragma once

#include "core/mdm/map_stream.h"
#include "core/mdm/registrar.h"
#include "core/mdm/repository.h"
#include "core/mdm/view.h"

namespace gabion::mdm {

proto::ClusterStatus MakeStatus(const View& view, const Registrar& registrar, const MapStream& maps,
                                bool with_slices);

}  // namespace gabion::mdm
