;; The least that a step can be: one call, number 0, to write a line. Written by hand and without
;; names, which a module carries along, it is the floor against which a module's start is measured.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One iovec, the text's address and length; the text.
  (data (i32.const 0) "\08\00\00\00\0d\00\00\00hello, world\n")
  (func (export "_start")
    (drop (call 0 (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))))
