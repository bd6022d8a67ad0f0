//! The names of preview 1's functions, and which function of ours each is.

use wasmer::{Function, FunctionEnv, FunctionEnvMut, FunctionType, Store};

use super::errno::Result;
use super::open::Request;
use super::types::Abi;
use super::{Wasi, clock, directory, fd, open, path, poll, process, random, sock, stdio};

/// What a name of an import leads to.
pub(crate) enum Imported {
    /// A function of ours, of the type the module imports.
    Function(Function),
    /// A function of ours, but of this type.
    Mismatch(FunctionType),
    /// Nothing.
    Unknown,
}

/// Finds what a module imports.
pub(crate) fn import(
    store: &mut Store,
    env: &FunctionEnv<Wasi>,
    module: &str,
    name: &str,
    ty: &FunctionType,
) -> Imported {
    let abi = match module {
        "wasi_snapshot_preview1" => Abi::Preview1,
        "wasi_unstable" => Abi::Unstable,
        _ => return Imported::Unknown,
    };
    match function(store, env, abi, name) {
        None => Imported::Unknown,
        Some(function) => {
            let ours = function.ty(store);
            if ours == *ty { Imported::Function(function) } else { Imported::Mismatch(ours) }
        }
    }
}

/// What the module sees of a result: an error number.
fn code(result: Result<()>) -> u32 {
    result.map_or_else(|error| u32::from(error.code()), |()| 0)
}

/// Makes a host function of one that takes the state and numbers.
///
/// The body must not borrow anything from its surroundings but the version, which decides a type.
macro_rules! host {
    ($store:expr, $env:expr, |$wasi:ident $(, $argument:ident: $ty:ty)*| $body:expr) => {
        Function::new_typed_with_env(
            $store,
            $env,
            move |mut env: FunctionEnvMut<Wasi> $(, $argument: $ty)*| -> u32 {
                let $wasi = env.data_mut();
                code($body)
            },
        )
    };
}

#[expect(clippy::too_many_lines, reason = "one line for each function of the specification")]
fn function(store: &mut Store, env: &FunctionEnv<Wasi>, abi: Abi, name: &str) -> Option<Function> {
    Some(match name {
        "args_get" => host!(store, env, |wasi, table: u32, strings: u32| {
            process::strings(wasi, |wasi| &wasi.arguments, table, strings)
        }),
        "args_sizes_get" => host!(store, env, |wasi, count: u32, size: u32| {
            process::sizes(wasi, |wasi| &wasi.arguments, count, size)
        }),
        "environ_get" => host!(store, env, |wasi, table: u32, strings: u32| {
            process::strings(wasi, |wasi| &wasi.environment, table, strings)
        }),
        "environ_sizes_get" => host!(store, env, |wasi, count: u32, size: u32| {
            process::sizes(wasi, |wasi| &wasi.environment, count, size)
        }),
        "clock_res_get" => {
            host!(store, env, |wasi, id: u32, out: u32| clock::resolution(wasi, id, out))
        }
        "clock_time_get" => host!(store, env, |wasi, id: u32, precision: u64, out: u32| {
            clock::time(wasi, id, precision, out)
        }),
        "fd_advise" => host!(store, env, |wasi, fd: u32, offset: u64, len: u64, advice: u32| {
            fd::advise(wasi, fd, offset, len, advice)
        }),
        "fd_allocate" => host!(store, env, |wasi, fd: u32, offset: u64, len: u64| {
            fd::allocate(wasi, fd, offset, len)
        }),
        "fd_close" => host!(store, env, |wasi, fd: u32| fd::close(wasi, fd)),
        "fd_datasync" => host!(store, env, |wasi, fd: u32| fd::datasync(wasi, fd)),
        "fd_fdstat_get" => {
            host!(store, env, |wasi, fd: u32, out: u32| fd::fdstat_get(wasi, fd, out))
        }
        "fd_fdstat_set_flags" => {
            host!(store, env, |wasi, fd: u32, flags: u32| fd::fdstat_set_flags(wasi, fd, flags))
        }
        "fd_fdstat_set_rights" => host!(store, env, |wasi, fd: u32, base: u64, inherit: u64| {
            fd::fdstat_set_rights(wasi, fd, base, inherit)
        }),
        "fd_filestat_get" => {
            host!(store, env, |wasi, fd: u32, out: u32| fd::filestat_get(wasi, abi, fd, out))
        }
        "fd_filestat_set_size" => {
            host!(store, env, |wasi, fd: u32, size: u64| fd::filestat_set_size(wasi, fd, size))
        }
        "fd_filestat_set_times" => {
            host!(store, env, |wasi, fd: u32, accessed: u64, modified: u64, flags: u32| {
                fd::filestat_set_times(wasi, fd, accessed, modified, flags)
            })
        }
        "fd_pread" => {
            host!(store, env, |wasi, fd: u32, iovs: u32, count: u32, offset: u64, out: u32| {
                stdio::pread(wasi, fd, iovs, count, offset, out)
            })
        }
        "fd_prestat_get" => {
            host!(store, env, |wasi, fd: u32, out: u32| fd::prestat_get(wasi, fd, out))
        }
        "fd_prestat_dir_name" => host!(store, env, |wasi, fd: u32, path: u32, len: u32| {
            fd::prestat_dir_name(wasi, fd, path, len)
        }),
        "fd_pwrite" => {
            host!(store, env, |wasi, fd: u32, iovs: u32, count: u32, offset: u64, out: u32| {
                stdio::pwrite(wasi, fd, iovs, count, offset, out)
            })
        }
        "fd_read" => host!(store, env, |wasi, fd: u32, iovs: u32, count: u32, out: u32| {
            stdio::read(wasi, fd, iovs, count, out)
        }),
        "fd_readdir" => {
            host!(store, env, |wasi, fd: u32, buf: u32, len: u32, cookie: u64, out: u32| {
                directory::readdir(wasi, fd, (buf, len), cookie, out)
            })
        }
        "fd_renumber" => host!(store, env, |wasi, from: u32, to: u32| fd::renumber(wasi, from, to)),
        "fd_seek" => host!(store, env, |wasi, fd: u32, offset: u64, whence: u32, out: u32| {
            stdio::seek(wasi, abi, fd, offset, whence, out)
        }),
        "fd_sync" => host!(store, env, |wasi, fd: u32| fd::sync(wasi, fd)),
        "fd_tell" => host!(store, env, |wasi, fd: u32, out: u32| stdio::tell(wasi, fd, out)),
        "fd_write" => host!(store, env, |wasi, fd: u32, iovs: u32, count: u32, out: u32| {
            stdio::write(wasi, fd, iovs, count, out)
        }),
        "path_create_directory" => host!(store, env, |wasi, fd: u32, path: u32, len: u32| {
            path::create_directory(wasi, fd, path, len)
        }),
        "path_filestat_get" => {
            host!(store, env, |wasi, fd: u32, flags: u32, path: u32, len: u32, out: u32| {
                path::filestat_get(wasi, abi, fd, flags, (path, len), out)
            })
        }
        "path_filestat_set_times" => {
            host!(store, env, |wasi,
                               fd: u32,
                               flags: u32,
                               path: u32,
                               len: u32,
                               atim: u64,
                               mtim: u64,
                               which: u32| {
                path::filestat_set_times(wasi, fd, flags, (path, len), (atim, mtim), which)
            })
        }
        "path_link" => host!(store, env, |wasi,
                                          fd: u32,
                                          flags: u32,
                                          from: u32,
                                          from_len: u32,
                                          to_fd: u32,
                                          to: u32,
                                          len: u32| {
            path::link(wasi, (fd, flags), (from, from_len), to_fd, (to, len))
        }),
        "path_open" => host!(store, env, |wasi,
                                          fd: u32,
                                          lookup: u32,
                                          path: u32,
                                          len: u32,
                                          open: u32,
                                          base: u64,
                                          inherit: u64,
                                          flags: u32,
                                          out: u32| {
            let request = Request { lookup, open, rights: (base, inherit), flags };
            open::open(wasi, fd, (path, len), request, out)
        }),
        "path_readlink" => {
            host!(store, env, |wasi,
                               fd: u32,
                               path: u32,
                               len: u32,
                               buf: u32,
                               buf_len: u32,
                               out: u32| {
                path::readlink(wasi, fd, (path, len), (buf, buf_len), out)
            })
        }
        "path_remove_directory" => host!(store, env, |wasi, fd: u32, path: u32, len: u32| {
            path::remove_directory(wasi, fd, path, len)
        }),
        "path_rename" => host!(store, env, |wasi,
                                            fd: u32,
                                            from: u32,
                                            from_len: u32,
                                            to_fd: u32,
                                            to: u32,
                                            len: u32| {
            path::rename(wasi, fd, (from, from_len), to_fd, (to, len))
        }),
        "path_symlink" => {
            host!(store, env, |wasi, target: u32, t_len: u32, fd: u32, path: u32, len: u32| {
                path::symlink(wasi, (target, t_len), fd, (path, len))
            })
        }
        "path_unlink_file" => host!(store, env, |wasi, fd: u32, path: u32, len: u32| {
            path::unlink_file(wasi, fd, path, len)
        }),
        "poll_oneoff" => {
            host!(store, env, |wasi, subscriptions: u32, events: u32, count: u32, out: u32| {
                poll::oneoff(wasi, abi, (subscriptions, events), count, out)
            })
        }
        "proc_exit" => Function::new_typed(store, |code: u32| process::exit(code)),
        "proc_raise" => host!(store, env, |_wasi, signal: u32| process::raise(signal)),
        "random_get" => {
            host!(store, env, |wasi, buf: u32, len: u32| random::get(wasi, buf, len))
        }
        "sched_yield" => host!(store, env, |_wasi| {
            process::sched_yield();
            Ok(())
        }),
        "sock_accept" if abi == Abi::Preview1 => {
            host!(store, env, |wasi, fd: u32, flags: u32, out: u32| {
                sock::accept(wasi, fd, flags, out)
            })
        }
        "sock_recv" => {
            host!(store, env, |wasi,
                               fd: u32,
                               iovs: u32,
                               count: u32,
                               flags: u32,
                               size: u32,
                               out_flags: u32| {
                sock::recv(wasi, fd, (iovs, count), flags, (size, out_flags))
            })
        }
        "sock_send" => {
            host!(store, env, |wasi, fd: u32, iovs: u32, count: u32, flags: u32, size: u32| {
                sock::send(wasi, fd, (iovs, count), flags, size)
            })
        }
        "sock_shutdown" => {
            host!(store, env, |wasi, fd: u32, how: u32| sock::shutdown(wasi, fd, how))
        }
        _ => return None,
    })
}
