//! Work that blocks a thread, such as reading and hashing a kernel.

use crate::error::ImageError;

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ImageError::Bug {
            what: format!("making an image: {error}"),
        }),
    }
}
