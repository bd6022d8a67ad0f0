;; The least that a step can be: one call to write a line. Built by hand, it is the floor against
;; which the start of a module is measured.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One iovec, address and length of the text; the text.
  (data (i32.const 0) "\08\00\00\00\0d\00\00\00hello, world\n")
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))))
