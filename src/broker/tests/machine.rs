//! Whose turn on the machine it is. Tests run beside one another, and brokers of many tests on two cores are slow
//! in ways that no cluster of three is. So a test that asserts how long something takes runs its brokers alone.

use std::sync::{Condvar, Mutex};

struct Machine {
    /// Clusters that run.
    clusters: usize,
    is_taken: bool,
}

static MACHINE: Mutex<Machine> = Mutex::new(Machine { clusters: 0, is_taken: false });
static CHANGED: Condvar = Condvar::new();

/// Held by a cluster as long as it may run.
pub struct Turn {
    alone: bool,
}

impl Turn {
    /// Beside others. Waits only for a cluster that runs alone, so a test may have two.
    pub fn shared() -> Turn {
        let machine = MACHINE.lock().expect("no panic under this lock");
        CHANGED.wait_while(machine, |machine| machine.is_taken).expect("no panic under this lock").clusters += 1;
        Turn { alone: false }
    }

    /// The only one, once no other cluster runs.
    pub fn alone() -> Turn {
        let machine = MACHINE.lock().expect("no panic under this lock");
        let is_busy = |machine: &mut Machine| machine.is_taken || machine.clusters > 0;
        CHANGED.wait_while(machine, is_busy).expect("no panic under this lock").is_taken = true;
        Turn { alone: true }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut machine = MACHINE.lock().expect("no panic under this lock");
        match self.alone {
            true => machine.is_taken = false,
            false => machine.clusters -= 1,
        }
        CHANGED.notify_all();
    }
}
