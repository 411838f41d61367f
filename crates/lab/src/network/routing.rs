//! Connections of a bridge beyond its segment: to other bridges, and to the network of the host.

use crate::error::LabError;
use crate::lock::lock;
use crate::network::bridge::Bridge;
use crate::network::gateway::BridgeRouter;

impl Bridge {
    /// Its router.
    pub(crate) fn router(&self) -> BridgeRouter<'_> {
        BridgeRouter(&self.0)
    }

    /// Lets packets pass between this bridge and others, in both directions. Their members have routes when this
    /// returns.
    ///
    /// # Errors
    /// When a bridge is closed, is this one, or has a subnet that overlaps with this one's.
    pub async fn route(&self, to: &[Bridge]) -> Result<(), LabError> {
        let call = "route()";
        for other in to {
            if other.id() == self.id() {
                return Err(self.0.invalid(call, "a bridge is not routed to itself"));
            }
            other.0.switch(call)?;
            if self.subnet().overlaps(other.subnet()) {
                let why = format!(
                    "its addresses ({}) overlap with those of {} ({})",
                    self.subnet(),
                    other.subject(),
                    other.subnet()
                );
                return Err(self.0.invalid(call, why));
            }
        }
        let own = self.router().interface(call).await?;
        for other in to {
            let theirs = other.router().interface(call).await?;
            let joined = self
                .0
                .file()
                .router()
                .with(move |router| router.join(own, theirs));
            joined.await.map_err(|error| self.0.stopped(call, error))?;
            self.router().add_route(&other.0);
            other.router().add_route(&self.0);
        }
        for bridge in std::iter::once(self).chain(to) {
            bridge.router().update_services(call).await?;
            bridge.update_members(&[]).await?;
        }
        Ok(())
    }

    /// The bridges that its members reach through the router, in the order in which they were given.
    pub fn routes(&self) -> Vec<Bridge> {
        self.router().routes().into_iter().map(Bridge).collect()
    }

    /// Connects its members to the network of the host: a default route, with their addresses translated.
    ///
    /// # Errors
    /// When `passt` is missing or cannot be started, as on a host without a default route.
    pub async fn enable_uplink(&self) -> Result<(), LabError> {
        let call = "enable_uplink()";
        self.0.switch(call)?;
        if self.has_uplink() {
            return Ok(());
        }
        self.router().use_uplink(call).await?;
        self.router().update_services(call).await?;
        self.update_members(&[]).await
    }

    /// Ends [`Bridge::enable_uplink`]; connections through it end, too.
    pub async fn disable_uplink(&self) -> Result<(), LabError> {
        let call = "disable_uplink()";
        let uplink = lock(&self.0.gateway).uplink.take();
        if let Some(uplink) = uplink {
            let (own, theirs) = (self.router().interface(call).await?, uplink.interface());
            let router = self.0.file().router();
            let separated = router.with(move |router| router.separate(own, theirs));
            separated
                .await
                .map_err(|error| self.0.stopped(call, error))?;
        }
        self.router().update_services(call).await?;
        self.update_members(&[]).await
    }

    /// Whether its members reach the host's network.
    pub fn has_uplink(&self) -> bool {
        self.router().has_uplink()
    }
}
