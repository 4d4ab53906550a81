#!/bin/sh
# The tests of the dieharder battery (Debian's package of that name) that its authors call good (but
# for two that take hours), on the raw words of flowjax's noise. Takes 15 to 30 minutes on two cores:
#   tools/dieharder.sh path > docs/dieharder-path.txt
#   tools/dieharder.sh keys > docs/dieharder-keys.txt
order=${1:-path}
python=${PYTHON:-python}
echo "# python tools/random_stream.py $order | dieharder -g 200 -d TEST"
echo "# test, ntup, samples, p-samples, p-value, assessment"
for test in 0 1 2 3 4 8 9 10 11 12 13 15 16 17 100 101 102 202 203 204 205 206 207 208 209; do
    $python tools/random_stream.py "$order" | dieharder -g 200 -d "$test" | grep -E 'PASSED|WEAK|FAILED'
done
