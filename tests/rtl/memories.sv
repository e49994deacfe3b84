// The memories of a bench, flat from address 0: the caller's page, flash and RAM. Reading takes no time, writing ends
// with the cycle; who has to answer later does so outside. The C++ beside it fills and reads the words directly.
module memories #(parameter int WORDS = 32'h22_0000 / 4) (
  input  logic        clk,
  input  logic [31:0] fetch_address,
  output logic [31:0] fetched,
  input  logic        request,
  input  logic [3:0]  write,
  input  logic [31:0] address,
  input  logic [31:0] written,
  output logic [31:0] read,
  output logic        outside
);
  logic [31:0] words [WORDS] /*verilator public_flat_rw*/;

  function automatic logic [31:0] at(input logic [31:0] where);
    return where[31:2] < WORDS ? words[where[31:2]] : '0;
  endfunction

  assign fetched = at(fetch_address);
  assign read = at(address);
  assign outside = request && address[31:2] >= WORDS;

  always_ff @(posedge clk)
    for (int lane = 0; lane < 4; lane++)
      if (request && write[lane] && !outside) words[address[31:2]][8 * lane +: 8] <= written[8 * lane +: 8];
endmodule
