//! Finding the agent: the first of a machine's transports on which one announces itself.

use crate::reader::small;
use provium_protocol::frame::Item;
use provium_protocol::{FrameDecoder, FrameKind, Hello};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncReadExt};

/// A transport on which an agent has announced itself.
pub(crate) struct AgentHello<S> {
    /// Which of those given.
    pub(crate) index: usize,
    pub(crate) stream: S,
    /// Holds what came after the announcement.
    pub(crate) decoder: FrameDecoder,
    /// `None`: it spoke, but could not be understood, as a UART loses bytes.
    pub(crate) hello: Option<Hello>,
}

type AnnouncementFuture<S> = Pin<Box<dyn Future<Output = Option<AgentHello<S>>> + Send>>;

/// The first transport on which an agent announces itself; the others are dropped. `None` when all were closed
/// before.
pub(crate) async fn first_agent<S>(streams: Vec<S>) -> Option<AgentHello<S>>
where
    S: AsyncRead + Send + Unpin + 'static,
{
    let mut listening: Vec<Option<AnnouncementFuture<S>>> = streams
        .into_iter()
        .enumerate()
        .map(|(index, stream)| Some(Box::pin(listen(index, stream)) as AnnouncementFuture<S>))
        .collect();
    poll_fn(move |context| {
        for slot in &mut listening {
            let Some(future) = slot else { continue };
            if let Poll::Ready(result) = future.as_mut().poll(context) {
                *slot = None;
                if result.is_some() {
                    return Poll::Ready(result);
                }
            }
        }
        if listening.iter().all(Option::is_none) {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    })
    .await
}

async fn listen<S: AsyncRead + Unpin>(index: usize, mut stream: S) -> Option<AgentHello<S>> {
    let mut decoder = FrameDecoder::new();
    let mut buffer = vec![0; 4096];
    let mut after_sync = false;
    loop {
        loop {
            match decoder.next_item() {
                Ok(None) => break,
                Ok(Some(Item::Sync)) => after_sync = true,
                Ok(Some(Item::Frame(frame))) if after_sync && frame.kind == FrameKind::Hello => {
                    let hello = small::<Hello>(&frame).ok();
                    return Some(AgentHello {
                        index,
                        stream,
                        decoder,
                        hello,
                    });
                }
                Ok(Some(Item::Frame(_))) | Err(_) => after_sync = false,
            }
        }
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => decoder.push(&buffer[..read]),
            _ => return None,
        }
    }
}
