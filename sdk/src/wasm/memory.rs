//! The allocator of a guest: dlmalloc, and one block beside it for what the director hands over with a pick.
//!
//! A pick comes with a short list that is gone when it is answered. To take it from a heap and give it back costs more
//! than most schedulers think.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::{Cell, UnsafeCell};
use core::ptr;

/// Room for the loads of so many destinations; a longer list goes to the heap.
const WORDS: usize = 64;

#[global_allocator]
static ALLOCATOR: Allocator =
    Allocator { block: UnsafeCell::new([0; WORDS]), lent: Cell::new(false), heap: dlmalloc::GlobalDlmalloc };

struct Allocator {
    block: UnsafeCell<[u64; WORDS]>,
    /// Whether somebody has the block.
    lent: Cell<bool>,
    heap: dlmalloc::GlobalDlmalloc,
}

// SAFETY: a component instance has one thread; wasm32-unknown-unknown without atomics has no others.
unsafe impl Sync for Allocator {}

impl Allocator {
    fn block(&self) -> *mut u8 {
        self.block.get().cast()
    }

    /// The block, when it is free and large enough.
    fn borrow(&self, size: usize, align: usize) -> Option<*mut u8> {
        let fits = size <= size_of::<[u64; WORDS]>() && align <= align_of::<u64>();
        (fits && !self.lent.replace(true)).then(|| self.block())
    }
}

// SAFETY: the block is lent to one owner at a time and lies outside the heap; whatever is not the block is dlmalloc's,
// which keeps the contract.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        unsafe { self.heap.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if pointer == self.block() {
            self.lent.set(false);
        } else {
            // SAFETY: as the caller's, for the block is the only memory that did not come from the heap.
            unsafe { self.heap.dealloc(pointer, layout) }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if pointer != self.block() {
            // SAFETY: as in `dealloc`.
            return unsafe { self.heap.realloc(pointer, layout, size) };
        }
        // SAFETY: the caller gives a size that is not 0 and makes no layout overflow; the old and the new memory are
        // apart.
        unsafe {
            let moved = self.heap.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(pointer, moved, layout.size().min(size));
                self.lent.set(false);
            }
            moved
        }
    }
}

/// Where the director puts what it hands over (canonical ABI, `realloc`). It takes the place of the one in wit-bindgen,
/// which knows the heap only.
///
/// # Safety
/// As the canonical ABI says: `old` is null or a memory of `old_size` and `align` that an earlier call returned.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_size: usize, align: usize, size: usize) -> *mut u8 {
    // SAFETY: sizes and alignments are those of types of the contract, and a size of 0 never gets to the allocator.
    let memory = unsafe {
        if old_size > 0 {
            ALLOCATOR.realloc(old, Layout::from_size_align_unchecked(old_size, align), size)
        } else if size == 0 {
            ptr::without_provenance_mut(align)
        } else if let Some(block) = ALLOCATOR.borrow(size, align) {
            block
        } else {
            ALLOCATOR.alloc(Layout::from_size_align_unchecked(size, align))
        }
    };
    if memory.is_null() {
        core::arch::wasm32::unreachable();
    }
    memory
}
