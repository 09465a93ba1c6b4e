// The exported functions. Each is an entry of 16 bytes that knows its number and nothing else; what they share hands the call
// on with a jump, all registers and the stack as they were, so no parameter has to be known and no frame is seen by the real
// function.
//
// The way of a call while nothing is armed: gate, row, count, jump. Anything else goes through hf_decide() (gate.c), with the
// registers that can hold arguments saved. Written for the two machines that NVIDIA has drivers for.
#include "shim.h"

// clang-format off
#if defined(__x86_64__)

// Only rax, r10 and r11 are free here: the others may hold arguments.
#define ENTRY "  .p2align 4\n  endbr64\n  movl $hf_n, %eax\n  jmp hf_common\n  hf_n = hf_n + 1\n"

#define SAVE                                          \
  "  pushq %rbp\n"                                    \
  "  .cfi_def_cfa_offset 16\n  .cfi_offset 6, -16\n"  \
  "  movq %rsp, %rbp\n"                               \
  "  .cfi_def_cfa_register 6\n"                       \
  "  subq $192, %rsp\n  andq $-16, %rsp\n"            \
  "  movq %rdi, 0(%rsp)\n  movq %rsi, 8(%rsp)\n  movq %rdx, 16(%rsp)\n  movq %rcx, 24(%rsp)\n  movq %r8, 32(%rsp)\n  movq %r9, 40(%rsp)\n" \
  "  movaps %xmm0, 64(%rsp)\n  movaps %xmm1, 80(%rsp)\n  movaps %xmm2, 96(%rsp)\n  movaps %xmm3, 112(%rsp)\n" \
  "  movaps %xmm4, 128(%rsp)\n  movaps %xmm5, 144(%rsp)\n  movaps %xmm6, 160(%rsp)\n  movaps %xmm7, 176(%rsp)\n"

// hf_go comes in rax and rdx.
#define RESTORE_AND_GO                                                             \
  "  movq %rax, %r11\n  movq %rdx, %rax\n"                                         \
  "  movq 0(%rsp), %rdi\n  movq 8(%rsp), %rsi\n  movq 16(%rsp), %rdx\n  movq 24(%rsp), %rcx\n  movq 32(%rsp), %r8\n  movq 40(%rsp), %r9\n" \
  "  movaps 64(%rsp), %xmm0\n  movaps 80(%rsp), %xmm1\n  movaps 96(%rsp), %xmm2\n  movaps 112(%rsp), %xmm3\n" \
  "  movaps 128(%rsp), %xmm4\n  movaps 144(%rsp), %xmm5\n  movaps 160(%rsp), %xmm6\n  movaps 176(%rsp), %xmm7\n" \
  "  leave\n  .cfi_def_cfa 7, 8\n"                                                 \
  "  testq %r11, %r11\n  jz 9f\n  jmp *%r11\n9:\n  ret\n"

#define COMMON                                                  \
  "  .p2align 4\nhf_common:\n  .cfi_startproc\n"                \
  "  leaq hf_entry_fast(%rip), %r11\n"                          \
  "  movq (%r11,%rax,8), %r11\n  testq %r11, %r11\n  jz 1f\n"   \
  "  movq hf_gate(%rip), %r10\n  cmpq $0, (%r10)\n  jne 1f\n"   \
  "  movq hf_row@gottpoff(%rip), %r10\n  movq %fs:(%r10), %r10\n  testq %r10, %r10\n  jz 1f\n" \
  "  leaq hf_entry_function(%rip), %r11\n  movzwl (%r11,%rax,2), %r11d\n  incq (%r10,%r11,8)\n" \
  "  leaq hf_entry_fast(%rip), %r10\n  jmp *(%r10,%rax,8)\n"    \
  "1:\n" SAVE                                                   \
  "  movl %eax, %edi\n  movq %rsp, %rsi\n  movq 8(%rbp), %rdx\n  call hf_decide\n" RESTORE_AND_GO "  .cfi_endproc\n"

#define DLSYM                                                                     \
  "  .globl dlsym\n  .type dlsym, @function\n  .p2align 4\ndlsym:\n  .cfi_startproc\n  endbr64\n" SAVE \
  "  movq 8(%rbp), %rdx\n  call hf_dlsym\n" RESTORE_AND_GO "  .cfi_endproc\n  .size dlsym, .-dlsym\n"

#elif defined(__aarch64__)

// x9 to x17 are free here.
#define ENTRY "  .p2align 4\n  hint #34\n  mov w16, #hf_n\n  b hf_common\n  hf_n = hf_n + 1\n"

#define SAVE                                                                                                   \
  "  stp x29, x30, [sp, #-16]!\n  .cfi_def_cfa_offset 16\n  .cfi_offset 29, -16\n  .cfi_offset 30, -8\n"       \
  "  mov x29, sp\n  .cfi_def_cfa_register 29\n"                                                                \
  "  sub sp, sp, #208\n"                                                                                       \
  "  stp x0, x1, [sp]\n  stp x2, x3, [sp, #16]\n  stp x4, x5, [sp, #32]\n  stp x6, x7, [sp, #48]\n  str x8, [sp, #64]\n" \
  "  stp q0, q1, [sp, #80]\n  stp q2, q3, [sp, #112]\n  stp q4, q5, [sp, #144]\n  stp q6, q7, [sp, #176]\n"

// hf_go comes in x0 and x1.
#define RESTORE_AND_GO                                                                                         \
  "  mov x17, x0\n  mov x16, x1\n"                                                                             \
  "  ldp x0, x1, [sp]\n  ldp x2, x3, [sp, #16]\n  ldp x4, x5, [sp, #32]\n  ldp x6, x7, [sp, #48]\n  ldr x8, [sp, #64]\n" \
  "  ldp q0, q1, [sp, #80]\n  ldp q2, q3, [sp, #112]\n  ldp q4, q5, [sp, #144]\n  ldp q6, q7, [sp, #176]\n"    \
  "  mov sp, x29\n  ldp x29, x30, [sp], #16\n  .cfi_def_cfa 31, 0\n"                                           \
  "  cbz x17, 9f\n  br x17\n9:\n  mov x0, x16\n  ret\n"

#define COMMON                                                                                                 \
  "  .p2align 4\nhf_common:\n  .cfi_startproc\n"                                                               \
  "  adrp x17, hf_entry_fast\n  add x17, x17, :lo12:hf_entry_fast\n  ldr x17, [x17, x16, lsl #3]\n  cbz x17, 1f\n" \
  "  adrp x9, hf_gate\n  ldr x9, [x9, :lo12:hf_gate]\n  ldr x9, [x9]\n  cbnz x9, 1f\n"                         \
  "  adrp x9, :gottprel:hf_row\n  ldr x9, [x9, :gottprel_lo12:hf_row]\n  mrs x10, tpidr_el0\n  ldr x9, [x10, x9]\n  cbz x9, 1f\n" \
  "  adrp x10, hf_entry_function\n  add x10, x10, :lo12:hf_entry_function\n  ldrh w10, [x10, x16, lsl #1]\n"   \
  "  ldr x11, [x9, x10, lsl #3]\n  add x11, x11, #1\n  str x11, [x9, x10, lsl #3]\n  br x17\n"                 \
  "1:\n" SAVE "  mov w0, w16\n  mov x1, sp\n  ldr x2, [x29, #8]\n  bl hf_decide\n" RESTORE_AND_GO "  .cfi_endproc\n"

#define DLSYM                                                                                                  \
  "  .globl dlsym\n  .type dlsym, %function\n  .p2align 4\ndlsym:\n  .cfi_startproc\n  hint #34\n" SAVE        \
  "  ldr x2, [x29, #8]\n  bl hf_dlsym\n" RESTORE_AND_GO "  .cfi_endproc\n  .size dlsym, .-dlsym\n"

#else
#error "the fault shim is written for x86-64 and aarch64"
#endif

#if defined(__x86_64__)
#define FUNCTION_TYPE "@function"
#else
#define FUNCTION_TYPE "%function"
#endif

#define SYMBOL(symbol, name) "  .globl " #symbol "\n  .type " #symbol ", " FUNCTION_TYPE "\n" ENTRY_LABELLED(symbol)
#define ENTRY_LABELLED(symbol) "  .p2align 4\n" #symbol ":\n" ENTRY "  .size " #symbol ", .-" #symbol "\n"
#define FUNCTION(name, api, group, traits, variants) HF_##variants(SYMBOL, name)

// clang-format on

__asm__(
    "  .text\n  hf_n = 0\n  .p2align 4\n  .globl hf_entries_begin\n  .hidden "
    "hf_entries_begin\nhf_entries_begin:\n" HF_FUNCTIONS(
        FUNCTION) "  .rept 1024\n" ENTRY
                  "  .endr\n"
                  "  .p2align 4\n  .globl hf_entries_end\n  .hidden hf_entries_end\nhf_entries_end:\n" COMMON DLSYM);

_Static_assert(HF_SPARE == 1024, "as many as the .rept above makes");
