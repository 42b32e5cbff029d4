package cli

// demoObjects are the objects of the demo's bucket, by key.
var demoObjects = map[string]string{
	"README.md": `# Sample data

Everything here is an object in the bucket "demo". Change what you like: the
server keeps it in memory and forgets it at the end.
`,
	"reports/2026-q1.md": `# Report, first quarter (draft)

| month    | requests | errors |
|----------|---------:|-------:|
| January  |   81,204 |     12 |
| February |   79,950 |      7 |
| March    |   93,117 |     31 |
`,
	"reports/2026-q2.md": `# Report, second quarter (draft)

Not written yet.
`,
	"logs/2026-03-01.log": `08:00:01 info  service started
08:14:22 warn  request took 2.1 s path=/search
09:02:47 error upstream answered 503 path=/search
09:02:48 info  retried, answered 200 path=/search
`,
	"logs/2026-03-02.log": `08:00:00 info  service started
11:31:09 error connection reset path=/upload
`,
	"data/people.csv": `id,name,city
1,Ada,London
2,Grace,New York
3,Edsger,Rotterdam
`,
	"notes/ideas.txt": `* one tree for everything
* an object is a file
`,
}

// memoryFiles are the files of the demo's memory route.
var memoryFiles = map[string]string{
	"README.txt": `This directory is in memory, fast and gone at the end: a place to work.
s3-data is a bucket. Move results there to keep them.
`,
}
