// lowRISC Ibex: both memories take a request at once and answer in the next cycle. An instruction enters when the
// decode stage holds it for the first cycle.
module bench import ibex_pkg::*; (
  input  logic        clk,
  input  logic        rst_n,
  output logic        enters,
  output logic [31:0] pc,
  output logic        stopped
);
  logic        fetch, load_or_store, store, outside;
  logic [3:0]  lanes;
  logic [31:0] fetch_address, fetched, address, written, read;
  logic        fetch_answered, answered;
  logic [31:0] fetch_answer, answer;

  memories m (
    .clk, .fetch_address, .fetched, .request(load_or_store), .write(store ? lanes : 4'b0), .address, .written, .read,
    .outside
  );

  always_ff @(posedge clk) begin
    fetch_answered <= fetch && rst_n;
    answered <= load_or_store && rst_n;
    fetch_answer <= fetched;
    answer <= read;
  end

  ibex_top #(
    .RV32M(`MULTIPLIER), .BranchTargetALU(`BRANCH_TARGET_ALU), .RV32E(1'b0), .RV32B(RV32BNone), .RegFile(RegFileFF),
    .WritebackStage(1'b0), .ICache(1'b0), .BranchPredictor(1'b0), .PMPEnable(1'b0), .SecureIbex(1'b0)
  ) core (
    .clk_i(clk), .rst_ni(rst_n), .test_en_i(1'b0), .ram_cfg_i('0), .hart_id_i('0), .boot_addr_i('0),
    .instr_req_o(fetch), .instr_gnt_i(fetch), .instr_rvalid_i(fetch_answered), .instr_addr_o(fetch_address),
    .instr_rdata_i(fetch_answer), .instr_rdata_intg_i('0), .instr_err_i(1'b0),
    .data_req_o(load_or_store), .data_gnt_i(load_or_store), .data_rvalid_i(answered), .data_we_o(store),
    .data_be_o(lanes), .data_addr_o(address), .data_wdata_o(written), .data_wdata_intg_o(), .data_rdata_i(answer),
    .data_rdata_intg_i('0), .data_err_i(1'b0),
    .irq_software_i(1'b0), .irq_timer_i(1'b0), .irq_external_i(1'b0), .irq_fast_i('0), .irq_nm_i(1'b0),
    .scramble_key_valid_i(1'b0), .scramble_key_i('0), .scramble_nonce_i('0), .scramble_req_o(),
    .debug_req_i(1'b0), .crash_dump_o(), .double_fault_seen_o(), .fetch_enable_i(IbexMuBiOn), .alert_minor_o(),
    .alert_major_internal_o(), .alert_major_bus_o(), .core_sleep_o(), .scan_rst_ni(1'b1)
  );

  assign enters = core.u_ibex_core.instr_valid_id && core.u_ibex_core.instr_new_id;
  assign pc = core.u_ibex_core.pc_id;
  assign stopped = outside;
endmodule
