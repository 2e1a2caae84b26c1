//! A disk that runs full under a real server. Skipped, loudly, where no small one can be mounted.
#![allow(clippy::print_stderr, reason = "says what it skips")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::{Receiver, Server, config};

/// More than what the server keeps free, 256 MB, and not much more.
const DISK: &str = "size=340m";
/// What others write: it leaves less than that.
const OTHERS_BYTES: usize = 80 * 1024 * 1024;
const PUSH: &[u8] = br#"{"ref":"refs/heads/main"}"#;

/// A small disk in the place of a server's data folder, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(server: &Server) -> Option<Self> {
        let folder = server.data();
        std::fs::create_dir(&folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(&folder).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("SKIPPED: a full disk needs the right to mount a small one");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server may still be writing.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_events_and_says_so_and_all_else_goes_on() {
    let receiver = Receiver::start();
    let mut server = Server::prepare(&config(&receiver.url("/fn")));
    let Some(disk) = SmallDisk::mount(&server) else { return };
    server.restart();
    let stored = server.github("push", "d-1", PUSH);
    assert_eq!((stored.status, server.get("/readyz").status), (200, 200));
    let others = disk.0.join("others");
    std::fs::write(&others, vec![7; OTHERS_BYTES]).unwrap();
    server.wait("events to be refused", |server| server.github("push", "d-2", PUSH).status == 503);
    for body in [PUSH.to_vec(), vec![b' '; 400_000]] {
        let refused = server.github("push", "d-3", &body);
        assert_eq!((refused.status, &refused.json()["error"]), (503, &Value::from("disk_full")));
        assert!(refused.header("retry-after").is_some());
    }
    let ready = server.get("/readyz");
    assert_eq!((ready.status, &ready.json()["status"]), (503, &Value::from("full")));
    assert!(ready.json()["reason"].as_str().unwrap().contains("disk"));
    let id = stored.header("x-hookkeeper-event-id").unwrap();
    assert_eq!(server.get(&format!("/api/v1/events/{id}/body")).body, PUSH, "reading goes on");
    server.cli(&["replay", id]);
    assert_eq!(receiver.wait_for(2)[1].body, PUSH, "what is stored is worked on");
    server.wait("it to be recorded", |server| {
        server.items(&["runs", "list"]).iter().all(|run| run["state"] == "succeeded")
    });
    std::fs::remove_file(&others).unwrap();
    server.wait("events to be taken again", |server| server.github("push", "d-4", PUSH).status == 200);
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(server.stop(), Some(0));
}
