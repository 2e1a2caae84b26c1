//! A keep-alive HTTP/1.1 connection that does no more than a load generator needs.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The connection.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What [`exchange`](Self::exchange) sends.
    pub(super) request: Vec<u8>,
}

/// What of an answer counts.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) is_duplicate: bool,
    pub(super) closes: bool,
}

impl Wire {
    pub(super) async fn open(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), request: Vec::new() })
    }

    /// Sends what stands in `request`, and reads the answer.
    pub(super) async fn exchange(&mut self) -> std::io::Result<Answered> {
        self.stream.write_all(&self.request).await?;
        self.read_answer().await
    }

    async fn read_answer(&mut self) -> std::io::Result<Answered> {
        let head_end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(std::io::Error::other("the answer's head has no end"));
            }
            self.read_more().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other("this is no HTTP answer"))?;
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let answered = Answered {
            status,
            is_duplicate: header("x-hookkeeper-duplicate") == Some("true"),
            closes: header("connection") == Some("close") || header("transfer-encoding").is_some(),
        };
        while self.buffer.len() < head_end + length {
            self.read_more().await?;
        }
        self.buffer.drain(..head_end + length);
        Ok(answered)
    }

    async fn read_more(&mut self) -> std::io::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// Returns where a text begins in another.
pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
