//! The allocator of the C library, kept from holding on to what is free.

/// Allocations of at least this many bytes go back to the system as soon as they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const RETURNED_SIZE_BYTES: i32 = 8 << 20;

/// Bounds the pools of glibc to one for each core. By default there are eight for each; the many threads of queries, merges
/// and requests take turns in them, and what is free in one is of no use to the others: several hundred MiB after a while
/// under load. Called before there is a second thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library has no other way to be told, except by the environment before the start")]
pub(crate) fn bound_pools() {
    let core_count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pool_count = i32::try_from(core_count.max(2)).unwrap_or(i32::MAX);
    // SAFETY: mallopt stores two numbers, and nothing allocates beside it. Refused, it changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, pool_count);
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_SIZE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, RETURNED_SIZE_BYTES);
    }
}

/// Gives back the pages of all pools in which nothing is used. Takes some milliseconds, in which allocations of a pool wait.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "only the C library knows what is free")]
pub(crate) fn return_free() {
    // SAFETY: malloc_trim takes the locks of the pools that it works on.
    unsafe { libc::malloc_trim(0) };
}

/// Other systems' allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn bound_pools() {}

/// Other systems' allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn return_free() {}
