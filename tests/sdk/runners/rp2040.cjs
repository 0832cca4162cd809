// A Pico in rp2040js: flash from the UF2 file argv[2], UART 0 as stdin and stdout, until stdin ends.
const fs = require("fs");
const { RP2040 } = require("rp2040js");

const FLASH = 0x10000000;
const STEPS = 20000; // between looks at stdin
const STEPS_PER_CHARACTER = 1500; // about 115,200 baud at 12 MHz

const file = fs.readFileSync(process.argv[2]);
const chip = new RP2040();
for (let at = 0; at < file.length; at += 512) {
  const address = file.readUInt32LE(at + 12);
  const size = file.readUInt32LE(at + 16);
  chip.flash.set(file.subarray(at + 32, at + 32 + size), address - FLASH);
}
// The mask ROM runs the second boot stage from a copy in SRAM; it does not matter where it runs.
chip.core.PC = FLASH;
chip.uart[0].onByte = (byte) => process.stdout.write(Buffer.from([byte]));

const typed = [];
process.stdin.on("data", (data) => typed.push(...data));
process.stdin.on("end", () => process.exit(0));
function run() {
  for (let step = 0; step < STEPS; step++) {
    if (step % STEPS_PER_CHARACTER === 0 && typed.length > 0) {
      chip.uart[0].feedByte(typed.shift());
    }
    chip.step();
  }
  setImmediate(run);
}
run();
