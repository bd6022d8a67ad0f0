# Writes the primes below a hundred, ten a line, and ends with 3.
composite = Array.new(100, false)
primes = (2...100).reject do |n|
  (n * n).step(99, n) { |multiple| composite[multiple] = true } unless composite[n]
  composite[n]
end
primes.each_slice(10) { |line| puts line.join(" ") }
exit 3
