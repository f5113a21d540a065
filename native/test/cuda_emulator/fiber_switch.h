// Switching between the stacks of fibers: saves the registers that a call preserves, and takes up those of the other
// stack. ucontext's swapcontext does the same with a system call for the signal mask, which made the emulator's tests
// five times slower.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tenon::emulator {

// Pushes the caller's registers on its stack, leaves the stack's pointer in *from, and goes on where `to` was left.
extern "C" void tenon_emulator_switch(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.globl tenon_emulator_switch
.hidden tenon_emulator_switch
.type tenon_emulator_switch, @function
tenon_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tenon_emulator_switch, .-tenon_emulator_switch
)");
constexpr size_t kReturnWord = 6;  // the return address lies above the registers
constexpr size_t kFrameWords = 8;  // and an empty word, so that the entry finds the stack as after a call
#elif defined(__aarch64__)
asm(R"(
.text
.globl tenon_emulator_switch
.hidden tenon_emulator_switch
.type tenon_emulator_switch, %function
tenon_emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size tenon_emulator_switch, .-tenon_emulator_switch
)");
constexpr size_t kReturnWord = 11;  // x30
constexpr size_t kFrameWords = 20;
#else
#error "The CUDA emulator switches stacks on x86-64 and arm64 only"
#endif

// A stack that begins `entry` when it is switched to; entry must never return.
inline void* fresh_stack(unsigned char* stack, size_t bytes, void (*entry)()) {
  auto top = reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15};
  auto* frame = reinterpret_cast<uintptr_t*>(top) - kFrameWords;
  for (size_t i = 0; i < kFrameWords; ++i) frame[i] = 0;
  frame[kReturnWord] = reinterpret_cast<uintptr_t>(entry);
  return frame;
}

}  // namespace tenon::emulator
