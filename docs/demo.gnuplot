# gnuplot demo.gnuplot draws demo.svg from demo.dat
set terminal svg size 800,400 font "sans-serif,14" background "white"
set output "demo.svg"
set xlabel "step"
set ylabel "held-out loss, nats per byte"
set yrange [1:2.8]
set grid
plot "demo.dat" using 1:3 with linespoints linecolor "#0072b2" linewidth 2 pointtype 5 pointsize 0.6 \
       dashtype 2 title "standard*8", \
     "demo.dat" using 1:2 with linespoints linecolor "#d55e00" linewidth 2 pointtype 7 pointsize 0.7 \
       title "standard*4, spectral*2, holonomy*2"
