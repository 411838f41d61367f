# The tiny guest: a PVH entry, the way into long mode, timed work, and a console that obeys.
#
# It prints "work\n", then the sum of its work as eight hexadecimal digits and " done\n" on COM1.
# Then it echoes what it reads from COM1, and acts on four letters:
#   o  switches the machine off (ACPI S5, port 0x604)
#   s  sleeps (ACPI S3), and does not wake again
#   r  resets it (port 0xcf9)
#   p  reports a panic (pvpanic, port 0x505)
#
# The last four bytes are the number of rounds. `guest.bin` is this file, made by
#   gcc -m64 -c guest.S -o guest.o
#   ld -Ttext=0x200000 -e _start guest.o -o guest.elf
#   objcopy -O binary -j .text guest.elf guest.bin
    .code32
    .set TABLES, 0x00202000
    .globl _start
_start:
    cli
    mov $0x00208000, %esp
    # page tables: PML4 -> PDPT -> PD, first GiB in 2 MiB pages
    mov $TABLES, %edi
    movl $(TABLES + 0x1003), (%edi)
    movl $(TABLES + 0x2003), 0x1000(%edi)
    mov $0x83, %eax
    xor %ecx, %ecx
1:  mov %eax, 0x2000(%edi,%ecx,8)
    add $0x200000, %eax
    inc %ecx
    cmp $512, %ecx
    jb 1b
    mov %edi, %cr3
    mov $0x20, %eax
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov $0x80000001, %eax
    mov %eax, %cr0
    lgdt gdtr
    ljmp $8, $long
    .align 8
gdt: .quad 0, 0x00209b0000000000, 0x0000930000000000
gdtr: .word 23
    .long gdt
    .code64
long:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    lea start(%rip), %rsi
    call print
    # work: rounds of arithmetic over memory, with a TLB flush and one UART poll a round
    mov rounds(%rip), %r8d
    mov $1, %eax
    mov $0x00200000, %edi
2:  mov $16384, %ecx
3:  imul $1664525, %eax, %eax
    add $1013904223, %eax
    mov %eax, %edx
    and $0xff8, %edx
    add %eax, 0x00206000(%rdx)
    dec %ecx
    jnz 3b
    mov %cr3, %rdx
    mov %rdx, %cr3
    mov %eax, %ebx
    mov $0x3fd, %edx
    in %dx, %al
    mov %ebx, %eax
    dec %r8d
    jnz 2b
    # the sum as eight hexadecimal digits
    mov %eax, %ebx
    mov $8, %ecx
4:  rol $4, %ebx
    mov %ebx, %eax
    and $15, %eax
    cmp $10, %al
    jb 5f
    add $39, %al
5:  add $48, %al
    call put
    dec %ecx
    jnz 4b
    lea done(%rip), %rsi
    call print
    # serve single letters from the console
6:  mov $0x3fd, %edx
7:  pause
    in %dx, %al
    test $1, %al
    jz 7b
    mov $0x3f8, %edx
    in %dx, %al
    call put
    cmp $'o', %al
    je off
    cmp $'r', %al
    je reset
    cmp $'p', %al
    je panic
    cmp $'s', %al
    je sleep
    jmp 6b
off: mov $0x604, %edx
    mov $0x2000, %eax
    out %ax, %dx
    jmp 6b
sleep: mov $0x604, %edx
    mov $0x2400, %eax
    out %ax, %dx
    jmp 6b
reset: mov $0xcf9, %edx
    mov $6, %al
    out %al, %dx
    jmp 6b
panic: mov $0x505, %edx
    mov $1, %al
    out %al, %dx
    jmp 6b
print: lodsb
    test %al, %al
    jz 9f
    call put
    jmp print
9:  ret
put: mov %eax, %ebp
    mov $0x3fd, %edx
8:  in %dx, %al
    test $0x20, %al
    jz 8b
    mov $0x3f8, %edx
    mov %ebp, %eax
    out %al, %dx
    ret
start: .asciz "work\n"
done: .asciz " done\n"
rounds: .long 0x11223344
