/** Makes the generated parts of the documents anew: `npm run docs`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fill, generatedParts, readCalls } from './docs/generated.ts';
import { readDocuments } from './docs/markdown.ts';
import { ROOT } from './run-command.ts';

const parts = generatedParts(await readCalls());
for (const { path, text } of readDocuments(ROOT)) {
  const filled = fill(text, parts);
  if (filled === text) continue;
  writeFileSync(join(ROOT, path), filled);
  console.log(`wrote ${path}`);
}
