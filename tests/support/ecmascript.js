// Answers what V8's regular expressions do, one JSON line for each line read.
//
// In:  [pattern, flags, [[input, start], ...]]
// Out: null when the pattern is refused, 0 when it is too large for V8, else for each input null or
//      [[start, end], null, ...]: the match and its groups, in UTF-16 code units.
'use strict';

function answer([pattern, flags, inputs]) {
  let regex;
  try {
    regex = new RegExp(pattern, flags + 'dg');
  } catch (error) {
    return /too large/.test(error.message) ? 0 : null;
  }
  const answers = [];
  for (const [input, start] of inputs) {
    regex.lastIndex = start;
    try {
      const found = regex.exec(input);
      answers.push(found && Array.from(found.indices, (span) => span || null));
    } catch (error) {
      return 0;
    }
  }
  return answers;
}

const lines = require('readline').createInterface({ input: process.stdin });
lines.on('line', (line) => {
  process.stdout.write(JSON.stringify(answer(JSON.parse(line))) + '\n');
});
