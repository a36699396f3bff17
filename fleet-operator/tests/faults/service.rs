//! An operator as a process that may die at any time: nothing waits until it is ready.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use crate::wait::until;
use crate::world::World;

pub(crate) struct Service<'a> {
    world: &'a World,
    child: Child,
}

impl<'a> Service<'a> {
    pub(crate) fn start(world: &'a World) -> Self {
        let kubeconfig = world.management_kubeconfig();
        let child = world.home.command().env("KUBECONFIG", kubeconfig).spawn().unwrap();
        Self { world, child }
    }

    /// Lets it run for so long, and kills it.
    pub(crate) fn killed_after(mut self, time: Duration) {
        std::thread::sleep(time);
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "it ended by itself\n{}", self.world.log());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it as an init system does.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        until("the operator stops", || self.child.try_wait().unwrap().ok_or_else(|| self.world.log()))
    }

    /// The most memory that was ever resident, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// What is resident now, in bytes.
    pub(crate) fn memory_now(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
