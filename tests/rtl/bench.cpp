// Calls functions of a program on a core that Verilator built, and says how many cycles each took.
//
// Standard input: the memories' words; then for each call nine words (function, four arguments, address and size of what
// is written before, address and size of what is read after) and the bytes to write. Standard output, for each call: cycles
// and instructions (64 bits each), the returned word, how many instructions are listed, each as program counter and
// cycle (32 bits each; only with the argument "list"), and the bytes read.
//
// A core enters an instruction in one cycle. A call lasts from the cycle in which it enters the function to that in which
// it enters what stands behind the call: the cost of everything between, whatever the caller's own instructions take.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "Vbench.h"
#include "Vbench___024root.h"

namespace {

constexpr uint32_t CALLER = 0x80, BEHIND = 0xa4, MAILBOX = 0x400, RESULT = 0x414;
constexpr uint64_t PATIENCE = 200'000'000;

// 80: lw t0,0x400(x0); beqz t0,80; sw x0,0x400(x0); lui sp,0x220; lw a0,0x404(x0) ... lw a3,0x410(x0); jalr t0
// a4: sw a0,0x414(x0); j 80
constexpr uint32_t CALLING[] = {0x40002283, 0xfe028ee3, 0x40002023, 0x00220137, 0x40402503, 0x40802583,
                                0x40c02603, 0x41002683, 0x000280e7, 0x40a02a23, 0xfd9ff06f};

struct Entered { uint32_t pc, cycle; };

uint8_t *memory(Vbench &bench) { return reinterpret_cast<uint8_t *>(&bench.rootp->bench__DOT__m__DOT__words[0]); }

uint32_t memory_size(Vbench &bench) { return sizeof(bench.rootp->bench__DOT__m__DOT__words); }

bool take(void *into, size_t bytes) { return fread(into, 1, bytes, stdin) == bytes; }

void give(const void *from, size_t bytes)
{
    if (fwrite(from, 1, bytes, stdout) != bytes) exit(4);
}

void tick(Vbench &bench)
{
    bench.clk = 1;
    bench.eval();
    bench.clk = 0;
    bench.eval();
}

// Runs until the caller waits again. False: the core trapped, left the memories, or does not return.
bool run(Vbench &bench, uint32_t function, uint64_t &cycles, std::vector<Entered> &entered)
{
    uint64_t now = 0, begun = 0;
    uint32_t last = 0;
    bool inside = false, returned = false;
    entered.clear();
    for (; now < PATIENCE && !bench.stopped; now++, tick(bench)) {
        if (!bench.enters) continue;
        if (bench.pc < CALLER) break;  // where a trap leads
        if (!inside && bench.pc == function) {
            inside = true;
            begun = now;
        } else if (inside && bench.pc == BEHIND) {
            inside = false;
            returned = true;
            cycles = now - begun;
        } else if (returned && bench.pc == CALLER) {
            return true;
        }
        last = bench.pc;
        if (inside) entered.push_back({bench.pc, static_cast<uint32_t>(now - begun)});
    }
    fprintf(stderr, "%s after 0x%08x\n", now < PATIENCE ? "a trap" : "does not return", last);
    return false;
}

}  // namespace

int main(int argc, char **argv)
{
    const bool list = argc > 1 && !strcmp(argv[1], "list");
    Vbench bench;
    bench.clk = 0;
    for (int level : {1, 0}) {  // reset acts by its edge where a clock is gated
        bench.rst_n = level;
        bench.eval();
    }
    for (int k = 0; k < 10; k++) tick(bench);
    if (!take(memory(bench), memory_size(bench))) return 4;
    memcpy(memory(bench) + CALLER, CALLING, sizeof CALLING);
    memset(memory(bench) + MAILBOX, 0, RESULT + 4 - MAILBOX);
    bench.rst_n = 1;
    bench.eval();
    std::vector<Entered> entered;
    for (uint32_t call[9]; take(call, sizeof call);) {
        const uint32_t into = call[5], in_bytes = call[6], from = call[7], out_bytes = call[8];
        if (uint64_t{into} + in_bytes > memory_size(bench) || uint64_t{from} + out_bytes > memory_size(bench)) return 4;
        if (!take(memory(bench) + into, in_bytes)) return 4;
        memcpy(memory(bench) + MAILBOX, call, 20);
        uint64_t counts[2] = {0, 0};
        if (!run(bench, call[0], counts[0], entered)) return 5;
        counts[1] = entered.size();
        const uint32_t listed = list ? entered.size() : 0;
        give(counts, sizeof counts);
        give(memory(bench) + RESULT, 4);
        give(&listed, 4);
        give(entered.data(), listed * sizeof(Entered));
        give(memory(bench) + from, out_bytes);
    }
    bench.final();
    return 0;
}
