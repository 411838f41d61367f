//! A request about the network or disks.

use crate::disks;
use crate::network::{self, NetworkRequest};
use provium_protocol::op::{NicConfig, SetDisks};
use std::ffi::CStr;

/// What to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigurationRequest {
    Network(NetworkRequest),
    Disks(SetDisks),
}

impl From<NetworkRequest> for ConfigurationRequest {
    fn from(request: NetworkRequest) -> Self {
        Self::Network(request)
    }
}

impl ConfigurationRequest {
    /// The NICs of a request that sets them.
    pub(super) fn nics(&self) -> Option<&[NicConfig]> {
        match self {
            Self::Network(NetworkRequest::Set(request)) => Some(&request.nics),
            Self::Network(NetworkRequest::Count(_)) | Self::Disks(_) => None,
        }
    }

    /// The modules that it may need.
    pub(super) fn modules(&self) -> Vec<String> {
        match self {
            Self::Network(_) => network::MODULES.map(str::to_owned).to_vec(),
            Self::Disks(request) => disks::modules(request),
        }
    }

    /// The name of its process.
    pub(super) fn process_name(&self) -> &'static CStr {
        match self {
            Self::Network(_) => c"provium-net",
            Self::Disks(_) => c"provium-disk",
        }
    }
}
