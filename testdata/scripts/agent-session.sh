#!/bin/sh
# What an agent does in a directory: notes, edits, searches, moves, a small
# pipeline. It prints the same on every file system that behaves; what it
# should print is in agent-session.want.
set -eu
export LC_ALL=C
cd "$1"

mkdir -p notes src/pkg
printf 'todo: read the logs\ntodo: fix the bug\n' > notes/todo.txt
for i in 1 2 3 4 5; do
	printf 'package pkg\n\n// File %s.\nfunc F%s() int { return %s }\n' "$i" "$i" "$i" > "src/pkg/f$i.go"
done

echo "== search"
grep -rn 'return 3' src
grep -rl 'package pkg' src | sort

echo "== edit"
sed -i 's/fix the bug/fixed the bug/' notes/todo.txt
sed -i 's/return 3/return 33/' src/pkg/f3.go
echo 'done: 2026-11-23' >> notes/todo.txt
cat notes/todo.txt
grep -c . src/pkg/f3.go

echo "== atomic replace"
printf 'new content\n' > notes/.todo.tmp
mv notes/.todo.tmp notes/todo.txt
cat notes/todo.txt
ls -A notes

echo "== move and copy"
cp -r src src2
mv src2/pkg src2/lib
find src2 -type f | sort
diff -r src/pkg src2/lib && echo same
rm -r src2
ls

echo "== pipeline"
cat src/pkg/*.go | grep -o 'F[0-9]' | sort -u | tr '\n' ' '
echo
tar -cf all.tar src && rm -r src && tar -xf all.tar && rm all.tar
find . -type f | sort | xargs wc -c | tail -n 1 | awk '{ print $1 }'

echo "== clean up"
rm -rf notes src
ls -A
