//! Memory behind a userfaultfd while it is put back.
//!
//! Between the death of a worker and its successor the threads of a target run on, until they touch
//! what is missing. What they do to their mappings meanwhile waits as an event of the guard until it is
//! read: memory that moved (mremap) goes back to where it is now, and a child (fork) has a guard of its
//! own, behind which it waits for the same memory. While the worker lives nothing of that can happen.

use crate::sys::userfaultfd::{self, Event};
use nix::errno::Errno;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory that has moved: addresses from `from` on are `to` and following now. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Move {
    from: u64,
    to: u64,
    length: u64,
}

/// The memory of the target, or of a child that it had meanwhile.
pub(crate) struct Guarded {
    guard: OwnedFd,
    page_size: u64,
    is_child: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    moves: Vec<Move>,
    children: Vec<OwnedFd>,
}

impl Guarded {
    /// The target's memory.
    pub(super) fn target(guard: BorrowedFd<'_>, page_size: u64) -> Result<Self, Errno> {
        let guard = guard
            .try_clone_to_owned()
            .map_err(|error| error.raw_os_error().map_or(Errno::EMFILE, Errno::from_raw))?;
        Ok(Self { guard, page_size, is_child: false, state: Mutex::default() })
    }

    /// Puts bytes to where they belong.
    pub(super) fn copy(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut rest = bytes;
        let mut address = address;
        while !rest.is_empty() {
            let (place, length) = self.place_of(address, rest.len() as u64);
            let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
            let (piece, behind) = rest.split_at(length.clamp(1, rest.len()));
            userfaultfd::copy(self.guard.as_fd(), place, piece, self.page_size, &|| self.take_events())?;
            address += piece.len() as u64;
            rest = behind;
        }
        Ok(())
    }

    /// Puts zeros there.
    pub(super) fn zero(&self, address: u64, length: u64) -> Result<(), Errno> {
        let mut done = 0;
        while done < length {
            let (place, piece) = self.place_of(address + done, length - done);
            userfaultfd::zero(self.guard.as_fd(), place, piece, self.page_size, &|| self.take_events())?;
            done += piece;
        }
        Ok(())
    }

    /// Ends the guard of a mapping, wherever its parts are now.
    pub(super) fn release(&self, address: u64, length: u64) -> Result<(), Errno> {
        let mut done = 0;
        while done < length {
            let (place, piece) = self.place_of(address + done, length - done);
            match userfaultfd::unregister(self.guard.as_fd(), place, piece) {
                // unmapped meanwhile
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(cause) => return Err(cause),
            }
            done += piece;
        }
        Ok(())
    }

    /// Whether it is the memory of a child.
    pub(super) fn is_child(&self) -> bool {
        self.is_child
    }

    /// The children it had since the worker died, as far as events were taken, whose memory is to be put
    /// back as well.
    pub(super) fn take_children(&self) -> Vec<Self> {
        let mut state = self.state();
        let (moves, page_size) = (state.moves.clone(), self.page_size);
        let child = |guard| Self {
            guard,
            page_size,
            is_child: true,
            state: Mutex::new(State { moves: moves.clone(), children: Vec::new() }),
        };
        std::mem::take(&mut state.children).into_iter().map(child).collect()
    }

    /// Takes what has happened to the mappings; until then the kernel puts nothing back.
    pub(super) fn take_events(&self) -> Result<(), Errno> {
        let mut state = self.state();
        while let Some(event) = userfaultfd::next_event(self.guard.as_fd())? {
            match event {
                Event::Forked(child) => state.children.push(child),
                Event::Moved { from, to, length } => state.moves.push(Move { from, to, length }),
                Event::Other => {}
            }
        }
        Ok(())
    }

    fn place_of(&self, address: u64, length: u64) -> (u64, u64) {
        place_of(&self.state().moves, address, length)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where memory is now that was at `address`, and how many of its `length` bytes are there in a row.
fn place_of(moves: &[Move], address: u64, length: u64) -> (u64, u64) {
    let (mut place, mut length) = (address, length);
    for &Move { from, to, length: moved } in moves {
        if let Some(offset) = place.checked_sub(from).filter(|&offset| offset < moved) {
            place = to + offset;
            length = length.min(moved - offset);
        } else if let Some(before) = from.checked_sub(place) {
            length = length.min(before);
        }
    }
    (place, length)
}

#[cfg(test)]
mod tests {
    use super::{Move, place_of};

    #[test]
    fn memory_that_moved_is_found_piece_by_piece() {
        let moves = [Move { from: 100, to: 900, length: 50 }];
        assert_eq!(place_of(&moves, 0, 40), (0, 40));
        assert_eq!(place_of(&moves, 80, 100), (80, 20));
        assert_eq!(place_of(&moves, 100, 100), (900, 50));
        assert_eq!(place_of(&moves, 120, 100), (920, 30));
        assert_eq!(place_of(&moves, 150, 100), (150, 100));
    }

    #[test]
    fn memory_that_moved_twice_is_where_it_went_last() {
        let moves = [Move { from: 100, to: 900, length: 50 }, Move { from: 910, to: 300, length: 10 }];
        assert_eq!(place_of(&moves, 100, 50), (900, 10));
        assert_eq!(place_of(&moves, 110, 40), (300, 10));
        assert_eq!(place_of(&moves, 120, 30), (920, 30));
    }

    #[test]
    fn every_byte_of_a_range_has_one_place() {
        let moves = [Move { from: 100, to: 900, length: 50 }, Move { from: 60, to: 2000, length: 20 }];
        let (mut address, mut places) = (0, Vec::new());
        while address < 200 {
            let (place, length) = place_of(&moves, address, 200 - address);
            assert!(length > 0);
            places.extend(place..place + length);
            address += length;
        }
        assert_eq!(places.len(), 200);
        assert_eq!((places[59], places[60], places[79], places[80]), (59, 2000, 2019, 80));
        assert_eq!((places[99], places[100], places[149], places[150]), (99, 900, 949, 150));
    }
}
