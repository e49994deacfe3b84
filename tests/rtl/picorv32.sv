// PicoRV32: one memory, which answers within the cycle. An instruction enters as it is launched.
module bench (
  input  logic        clk,
  input  logic        rst_n,
  output logic        enters,
  output logic [31:0] pc,
  output logic        stopped
);
  logic        request, outside, trapped;
  logic [3:0]  lanes;
  logic [31:0] address, written, read;

  memories m (.clk, .fetch_address('0), .fetched(), .request, .write(lanes), .address, .written, .read, .outside);

  picorv32 #(
    .ENABLE_COUNTERS(0), .ENABLE_COUNTERS64(0), .ENABLE_REGS_DUALPORT(1), .ENABLE_FAST_MUL(1), .ENABLE_DIV(1),
    .BARREL_SHIFTER(1), .COMPRESSED_ISA(0), .CATCH_MISALIGN(1), .CATCH_ILLINSN(1), .PROGADDR_RESET(32'h80)
  ) core (
    .clk, .resetn(rst_n), .trap(trapped), .mem_valid(request), .mem_instr(), .mem_ready(request), .mem_addr(address),
    .mem_wdata(written), .mem_wstrb(lanes), .mem_rdata(read), .mem_la_read(), .mem_la_write(), .mem_la_addr(),
    .mem_la_wdata(), .mem_la_wstrb(), .pcpi_valid(), .pcpi_insn(), .pcpi_rs1(), .pcpi_rs2(), .pcpi_wr(1'b0),
    .pcpi_rd('0), .pcpi_wait(1'b0), .pcpi_ready(1'b0), .irq('0), .eoi(), .trace_valid(), .trace_data()
  );

  assign enters = core.launch_next_insn;
  assign pc = core.next_pc;
  assign stopped = outside || trapped;
endmodule
